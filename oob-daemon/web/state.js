/**
 * What the page knows, in one place. Views look at it and are told which part of it changed.
 *
 * @typedef {import("./types.js").Alert} Alert
 * @typedef {import("./types.js").Conversation} Conversation
 * @typedef {import("./types.js").LogEntry} LogEntry
 * @typedef {import("./types.js").Me} Me
 * @typedef {import("./types.js").Member} Member
 * @typedef {import("./types.js").State} MessageState
 * @typedef {import("./types.js").Status} Status
 *
 * @typedef {"people" | "log" | "alerts" | "connection" | "open"} Part
 *
 * @typedef {{member: string, conversation: string, entries: LogEntry[], earlier: number | null}} Log
 *
 * @typedef {{member: string, name: string, reachable: boolean, lastHeard: string | null, heardBy: string | null,
 *   held: number, unread: number, known: boolean}} Person
 */

/** Messages kept of the open conversation: hours of talk. Older ones are read again when they are wanted. */
const KEPT = 2000;

/** How far each state is; a message never goes back. @type {Record<MessageState, number>} */
const RANK = { stored: 0, held: 1, removed: 2, delivered: 3, read: 4, expired: 5 };

/** What the page knows. */
export class State {
  constructor() {
    /** @type {Me | null} */
    this.me = null;
    /** @type {Status | null} */
    this.status = null;
    /** @type {Member[]} */
    this.members = [];
    /** By member. @type {Map<string, Conversation>} */
    this.conversations = new Map();
    /** The open conversation. @type {Log | null} */
    this.log = null;
    /** Newest first; null where this daemon has none. @type {Alert[] | null} */
    this.alerts = null;
    /** Alerts that this person has put away. @type {Set<string>} */
    this.hidden = new Set();
    /** Whether the daemon is heard. */
    this.connected = true;
    /** Text begun for each person. @type {Map<string, string>} */
    this.drafts = new Map();
    /** @type {Map<Part, Set<() => void>>} */
    this.watchers = new Map();
  }

  /**
   * Calls a view whenever one of these parts changed.
   *
   * @param {Part[]} parts
   * @param {() => void} view
   */
  watch(parts, view) {
    for (const part of parts) {
      const views = this.watchers.get(part) ?? new Set();
      views.add(view);
      this.watchers.set(part, views);
    }
  }

  /**
   * Tells the views that these parts changed.
   *
   * @param {...Part} parts
   */
  changed(...parts) {
    const views = new Set(parts.flatMap((part) => [...(this.watchers.get(part) ?? [])]));
    for (const view of views) view();
  }

  /** Returns everybody else, in the order of their names. @returns {Person[]} */
  people() {
    return this.members.filter((member) => !member.me).map((member) => this.person(member));
  }

  /**
   * @param {Member} member
   * @returns {Person}
   */
  person(member) {
    const devices = (this.status?.peers ?? []).filter((peer) => peer.member === member.member);
    const away = this.status?.island?.away.find((one) => one.member === member.member);
    const heard = devices.flatMap((peer) => peer.last_heard ?? []).sort();
    const conversation = this.conversations.get(member.member);
    const reachable = devices.some((peer) => peer.reachable);
    return {
      member: member.member,
      name: member.name,
      // Whoever has a link here is in reach; others may be reached through somebody, which only the daemon knows.
      reachable: this.connected && (reachable || (this.status?.island ? !away : false)),
      lastHeard: away?.last_heard ?? heard.at(-1) ?? null,
      heardBy: away?.heard_by_name ?? null,
      held: away?.held ?? 0,
      unread: conversation?.unread ?? 0,
      known: this.connected,
    };
  }

  /** Returns how many people are in reach, this one included, of how many. @returns {{near: number, all: number}} */
  island() {
    const island = this.status?.island;
    if (island) return { near: island.with, all: island.of };
    const near = this.people().filter((person) => person.reachable).length;
    return { near: near + 1, all: this.members.length };
  }

  /** Returns the person whose conversation is open. @returns {Person | null} */
  open() {
    const member = this.members.find((one) => one.member === this.log?.member);
    return member ? this.person(member) : null;
  }

  /** Returns how many messages were not shown yet. */
  unread() {
    return [...this.conversations.values()].reduce((sum, one) => sum + one.unread, 0);
  }

  /**
   * Puts messages into the open conversation where they belong; what is known of one already only grows.
   *
   * @param {LogEntry[]} entries
   */
  take(entries) {
    if (!this.log) return;
    const known = new Map(this.log.entries.map((entry) => [entry.number, entry]));
    for (const entry of entries) {
      const old = known.get(entry.number);
      const state = old && RANK[old.state] > RANK[entry.state] ? old.state : entry.state;
      known.set(entry.number, { ...entry, state });
    }
    this.log.entries = [...known.values()].sort((a, b) => a.number - b.number);
    if (this.log.entries.length > KEPT) {
      this.log.entries = this.log.entries.slice(-KEPT);
      this.log.earlier = this.log.entries[0].number;
    }
  }

  /**
   * Notes how far a message of the open conversation has come, and returns it if it is there.
   *
   * @param {string} id
   * @param {MessageState} state
   * @returns {LogEntry | null}
   */
  advance(id, state) {
    const entry = this.log?.entries.find((one) => one.id === id);
    if (!entry) return null;
    if (RANK[state] > RANK[entry.state]) entry.state = state;
    return entry;
  }

  /**
   * Puts one alert where it belongs.
   *
   * @param {Alert} alert
   */
  takeAlert(alert) {
    const others = (this.alerts ?? []).filter((one) => one.id !== alert.id);
    this.alerts = [...others, alert].sort((a, b) => b.issued.localeCompare(a.issued));
  }

  /**
   * Whether this person is asked to acknowledge an alert and has not.
   *
   * @param {Alert} alert
   */
  asks(alert) {
    if (alert.outgoing || over(alert)) return false;
    return !alert.acked.some((one) => one.member === this.me?.member);
  }
}

/**
 * Whether an alert's time has passed.
 *
 * @param {Alert} alert
 */
export function over(alert) {
  return alert.expires !== null && Date.parse(alert.expires) <= Date.now();
}
