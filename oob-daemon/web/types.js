/**
 * The JSON of the local API, as far as the page uses it. Times are RFC 3339 in UTC, ids text.
 *
 * @typedef {{member: string | null, device: string, org: string | null, name: string, org_name: string | null}} Me
 *
 * @typedef {{member: string, name: string, me: boolean}} Member
 *
 * @typedef {{member: string, device: string, reachable: boolean, last_heard: string | null, member_name: string}} Peer
 *
 * @typedef {{member: string, name: string, last_heard: string | null, heard_by: string | null,
 *   heard_by_name: string | null, held: number}} Away
 *
 * @typedef {{with: number, of: number, away: Away[]}} Island
 *
 * @typedef {{peers: Peer[], outbox: number, island?: Island | null}} Status
 *
 * @typedef {"stored" | "held" | "delivered" | "read" | "expired" | "removed"} State
 *
 * @typedef {{id: string, conversation: string, author: string, author_name: string, text: string, sent: string,
 *   received: string, state: State, held_by: string[], held_by_names?: string[], number: number}} LogEntry
 *
 * @typedef {{conversation: string, messages: LogEntry[], next: number | null, earlier: number | null}} MessagePage
 *
 * @typedef {{conversation: string, member: string, member_name: string, unread: number, latest: LogEntry | null}} Conversation
 *
 * @typedef {"info" | "warning" | "critical"} Severity
 *
 * @typedef {{member: string, name: string, time: string, answer: string | null}} Acknowledgement
 *
 * @typedef {{id: string, author: string, author_name: string, severity: Severity, text: string, issued: string,
 *   expires: string | null, outgoing: boolean, acked: Acknowledgement[], pending: string[], pending_names?: string[],
 *   unreachable: string[], unreachable_names?: string[]}} Alert
 *
 * @typedef {{type: "message", id: string, conversation: string, author: string, author_name: string, text: string,
 *   sent: string, received: string, number: number, outgoing: boolean}} MessageEvent_
 *
 * @typedef {{type: "receipt", id: string, conversation: string, state: State}} ReceiptEvent
 *
 * @typedef {{type: "alert" | "alert_acked", id: string}} AlertEvent
 *
 * @typedef {{type: "joined" | "org" | "peer" | "lagged"}} OtherEvent
 *
 * @typedef {MessageEvent_ | ReceiptEvent | AlertEvent | OtherEvent} ApiEvent
 */

export {};
