/**
 * Keeps the state as the daemon has it: reads it whole when the event stream opens, then follows the events. Whatever is
 * told twice is taken once, so a stream that breaks off costs nothing but the time.
 */

import { ApiError, forget, get, inherit, post, remember } from "./api.js";
import { Stream } from "./stream.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./types.js").ApiEvent} ApiEvent
 * @typedef {import("./types.js").Alert} Alert
 * @typedef {import("./types.js").Conversation} Conversation
 * @typedef {import("./types.js").LogEntry} LogEntry
 * @typedef {import("./types.js").Me} Me
 * @typedef {import("./types.js").Member} Member
 * @typedef {import("./types.js").MessageEvent_} MessageEvent_
 * @typedef {import("./types.js").MessagePage} MessagePage
 * @typedef {import("./types.js").Severity} Severity
 * @typedef {import("./types.js").Status} Status
 */

/** Messages of one page: more than a screen. */
const PAGE = 50;

/** Pause before a lost daemon is asked again. */
const RETRY_MS = 2000;

/** How often the standing of people is read again: "last heard" grows by itself, and a daemon that hangs is noticed. */
const STATUS_MS = 10_000;

/** Events that come together cause one reading. */
const TOGETHER_MS = 150;

/** A number above that of every message. */
const NEWEST = Number.MAX_SAFE_INTEGER;

/** Follows a daemon. */
export class Daemon extends EventTarget {
  /** @param {State} state */
  constructor(state) {
    super();
    this.state = state;
    /** @type {Stream | null} */
    this.stream = null;
    /** @type {Map<string, ReturnType<typeof setTimeout>>} */
    this.waiting = new Map();
    /** Newest message that the daemon was told was shown, by conversation. @type {Map<string, number>} */
    this.shown = new Map();
  }

  /**
   * Trades the ticket in the address, if there is one, for a session. Says whether there is a session.
   *
   * @returns {Promise<boolean>}
   */
  async enter() {
    const ticket = new URLSearchParams(location.hash.slice(1)).get("t");
    if (ticket) {
      // It is void in a moment; still it need not stay in the history.
      history.replaceState(null, "", "/");
      try {
        /** @type {{key: string}} */
        const { key } = await post("web/session", { ticket });
        remember(key);
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 401)) throw error;
      }
    } else {
      await inherit();
    }
    try {
      this.state.me = await get("me");
      return true;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return false;
      throw error;
    }
  }

  /** Begins to follow. */
  follow() {
    this.listen();
    setInterval(() => this.soon("standing"), STATUS_MS);
  }

  listen() {
    const stream = new Stream();
    this.stream = stream;
    stream.addEventListener("open", () => {
      this.heard(true);
      this.soon("all", 0);
    });
    stream.addEventListener("message", (event) => {
      this.happened(JSON.parse(/** @type {MessageEvent<string>} */ (event).data));
    });
    stream.addEventListener("error", () => {
      this.heard(false);
      setTimeout(() => this.again(), RETRY_MS);
    });
  }

  /** Asks whether the daemon is there and this session still is, and listens again. */
  async again() {
    try {
      this.state.me = await get("me");
      this.listen();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.out();
      else setTimeout(() => this.again(), RETRY_MS);
    }
  }

  /** Ends the session. */
  async leave() {
    await post("web/logout", {}).catch(() => null);
    this.out();
  }

  out() {
    forget();
    this.stream?.close();
    this.dispatchEvent(new Event("out"));
  }

  /** @param {boolean} connected */
  heard(connected) {
    if (this.state.connected === connected) return;
    this.state.connected = connected;
    this.state.changed("connection");
  }

  /**
   * Reads something again in a moment, once for all who ask meanwhile.
   *
   * @param {"all" | "standing" | "newest" | `alert ${string}`} what
   * @param {number} [after]
   */
  soon(what, after = TOGETHER_MS) {
    if (this.waiting.has(what)) return;
    const run = async () => {
      this.waiting.delete(what);
      try {
        if (what === "all") await this.readAll();
        else if (what === "standing") await this.readStanding();
        else if (what === "newest") await this.readNewest();
        else await this.readAlert(what.slice("alert ".length));
        // It hung, and the stream did not break.
        if (!this.state.connected && this.stream?.isOpen) {
          this.heard(true);
          this.soon("all");
        }
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 401) this.out();
        if (error.status === 0) this.heard(false);
      }
    };
    this.waiting.set(what, setTimeout(run, after));
  }

  async readAll() {
    const [me, members] = await Promise.all([get("me"), get("members")]);
    this.state.me = /** @type {Me} */ (me);
    this.state.members = /** @type {{members: Member[]}} */ (members).members;
    await this.readAlerts();
    await this.readStanding();
    await this.readNewest();
    await this.readConversations();
  }

  async readConversations() {
    /** @type {{conversations: Conversation[]}} */
    const { conversations } = await get("conversations");
    this.state.conversations = new Map(conversations.map((one) => [one.member, one]));
    this.state.changed("people");
  }

  async readStanding() {
    /** @type {Status} */
    const status = await get("status");
    this.state.status = status;
    // Who is out of reach changes with it.
    if (this.state.alerts !== null) await this.readAlerts();
    this.state.changed("people", "alerts");
  }

  async readAlerts() {
    try {
      /** @type {{alerts: Alert[]}} */
      const { alerts } = await get("alerts");
      this.state.alerts = alerts;
    } catch (error) {
      // A daemon of an earlier version has none.
      if (!(error instanceof ApiError && error.status === 404)) throw error;
      this.state.alerts = null;
    }
  }

  /** @param {string} id */
  async readAlert(id) {
    /** @type {Alert} */
    const alert = await get(`alerts/${encodeURIComponent(id)}`);
    this.state.takeAlert(alert);
    this.state.changed("alerts");
  }

  /**
   * Opens the conversation with a person.
   *
   * @param {string} member
   */
  async open(member) {
    if (this.state.log?.member === member) {
      this.state.changed("open");
      return;
    }
    const page = await this.page(member, NEWEST);
    this.state.log = { member, conversation: page.conversation, entries: [], earlier: page.earlier };
    this.state.take(page.messages);
    this.state.changed("open", "log", "people");
  }

  /** Closes the conversation. */
  close() {
    this.state.log = null;
    this.state.changed("open", "log", "people");
  }

  /** Reads the newest messages of the open conversation again. */
  async readNewest() {
    const log = this.state.log;
    if (!log) return;
    const page = await this.page(log.member, NEWEST);
    if (this.state.log !== log) return;
    const [first] = page.messages;
    // So much came meanwhile that there would be a hole: begin with what is newest.
    if (first && first.number > (log.entries.at(-1)?.number ?? 0) + 1) log.entries = [];
    if (log.entries.length === 0) log.earlier = page.earlier;
    this.state.take(page.messages);
    this.state.changed("log");
  }

  /** Reads older messages of the open conversation. */
  async readEarlier() {
    const log = this.state.log;
    if (!log?.earlier) return;
    const page = await this.page(log.member, log.earlier);
    if (this.state.log !== log) return;
    log.earlier = page.earlier;
    this.state.take(page.messages);
    this.state.changed("log");
  }

  /**
   * @param {string} member
   * @param {number} before
   * @returns {Promise<MessagePage>}
   */
  page(member, before) {
    return get(`messages?target=person:${encodeURIComponent(member)}&before=${before}&limit=${PAGE}`);
  }

  /**
   * Sends a text; it is durable on this device when this returns.
   *
   * @param {string} member
   * @param {string} text
   */
  async send(member, text) {
    await post("messages", { target: `person:${member}`, text });
  }

  /** Says that the open conversation was shown up to its newest message. */
  async markShown() {
    const { log } = this.state;
    const newest = log?.entries.at(-1);
    const conversation = log && this.state.conversations.get(log.member);
    if (!log || !newest || !conversation || conversation.unread === 0) return;
    const known = this.shown.get(log.conversation) ?? 0;
    if (newest.number <= known) {
      conversation.unread = 0;
      this.state.changed("people");
      return;
    }
    this.shown.set(log.conversation, newest.number);
    try {
      await post(`conversations/${encodeURIComponent(log.conversation)}/read`, { up_to: newest.number });
      conversation.unread = 0;
      this.state.changed("people");
    } catch {
      this.shown.set(log.conversation, known);
    }
  }

  /**
   * Raises an alert.
   *
   * @param {string} text
   * @param {Severity} severity
   */
  async raise(text, severity) {
    /** @type {Alert} */
    const alert = await post("alerts", { text, severity });
    this.state.takeAlert(alert);
    this.state.changed("alerts");
  }

  /**
   * Acknowledges an alert.
   *
   * @param {string} id
   */
  async acknowledge(id) {
    /** @type {Alert} */
    const alert = await post(`alerts/${encodeURIComponent(id)}/ack`, {});
    this.state.takeAlert(alert);
    this.state.changed("alerts");
  }

  /** @param {ApiEvent} event */
  happened(event) {
    switch (event.type) {
      case "message":
        this.arrived(event);
        break;
      case "receipt": {
        const entry = this.state.advance(event.id, event.state);
        if (!entry) break;
        // Who carries it is told with the message, not with the receipt.
        if (event.state === "held") this.soon("newest");
        this.state.changed("log");
        break;
      }
      case "alert":
      case "alert_acked":
        this.soon(`alert ${event.id}`, 0);
        break;
      case "peer":
        this.soon("standing");
        break;
      case "joined":
      case "org":
      case "lagged":
        this.soon("all");
        break;
      default:
      // Of a later version.
    }
  }

  /** @param {MessageEvent_} event */
  arrived(event) {
    /** @type {LogEntry} */
    const entry = { ...event, state: event.outgoing ? "stored" : "delivered", held_by: [] };
    if (this.state.log?.conversation === event.conversation) {
      this.state.take([entry]);
      this.state.changed("log");
    }
    const conversation = [...this.state.conversations.values()].find(
      (one) => one.conversation === event.conversation,
    );
    if (!conversation) {
      this.soon("all");
      return;
    }
    if (event.number <= (conversation.latest?.number ?? 0)) return;
    conversation.latest = entry;
    if (!event.outgoing) {
      conversation.unread += 1;
      this.dispatchEvent(new CustomEvent("arrival", { detail: entry }));
    }
    this.state.changed("people");
  }
}
