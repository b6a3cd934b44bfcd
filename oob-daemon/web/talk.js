/**
 * The open conversation: its messages, oldest first, and how far the own ones have come.
 */

import { arrange, fill, h, icon } from "./element.js";
import { plain, plainLine } from "./plain.js";
import { whereabouts } from "./rail.js";
import { clock, day, moment, progress } from "./words.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./types.js").LogEntry} LogEntry
 * @typedef {import("./daemon.js").Daemon} Daemon
 */

/** So near to the end, in pixels, the newest message counts as seen and new ones are followed. */
const NEAR_END = 80;

/** Messages of one person within this time stand together. */
const TOGETHER_MS = 5 * 60_000;

export class Talk extends HTMLElement {
  /**
   * @param {State} state
   * @param {Daemon} daemon
   * @param {(error: unknown) => void} failed
   */
  begin(state, daemon, failed) {
    this.state = state;
    this.daemon = daemon;
    this.failed = failed;
    this.following = true;
    this.reading = false;
    /** Which conversation is shown. @type {string | null} */
    this.shown = null;
    /** What each message was drawn from. @type {Map<number, {key: string, item: HTMLLIElement}>} */
    this.drawn = new Map();
    this.heading = h("h2", { id: "talk-title", tabindex: -1 });
    this.where = h("p", { class: "where" });
    this.back = h("button", { type: "button", class: "back", onclick: () => daemon.close() }, "← People");
    this.earlier = h("button", { type: "button", class: "earlier", onclick: () => this.older() }, "Earlier messages");
    this.list = h("ol", { class: "messages" });
    this.none = h("p", { class: "hint" }, "No messages yet.");
    this.view = h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Messages", onscroll: () => this.scrolled() },
      this.earlier,
      this.none,
      this.list,
    );
    this.newer = h("button", { type: "button", class: "newer", onclick: () => this.toEnd() }, "New messages ↓");
    this.empty = h(
      "div",
      { class: "empty" },
      h("p", {}, "Choose a person to talk to."),
      h("p", { class: "hint" }, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "K"), " finds a person by name."),
    );
    this.whole = h(
      "section",
      { class: "whole", "aria-labelledby": "talk-title" },
      h("div", { class: "bar" }, this.back, this.heading, this.where),
      this.view,
      this.newer,
    );
    fill(this, this.empty, this.whole);
    // What takes room above or below must not push the newest message out of view.
    new ResizeObserver(() => {
      if (this.following && this.view) this.view.scrollTop = this.view.scrollHeight;
    }).observe(this.view);
    state.watch(["open"], () => this.opened());
    state.watch(["log", "people", "connection"], () => this.show());
    document.addEventListener("visibilitychange", () => this.seen());
    this.show();
  }

  opened() {
    const member = this.state?.log?.member ?? null;
    if (member === this.shown) {
      if (member) this.heading?.focus();
      return;
    }
    this.shown = member;
    this.following = true;
    this.drawn?.clear();
    this.show();
    if (member) this.heading?.focus();
  }

  show() {
    const { state, list, view } = this;
    if (!state || !list || !view || !this.whole || !this.empty) return;
    const { log } = state;
    this.whole.hidden = log === null;
    this.empty.hidden = log !== null;
    if (!log) return;
    const person = state.open();
    if (person && this.heading && this.where) {
      fill(this.heading, h("bdi", {}, plainLine(person.name)));
      fill(this.where, whereabouts(person));
    }
    // What is in view stays where it is when older messages come in above it.
    const fromEnd = view.scrollHeight - view.scrollTop;
    const firstBefore = list.firstElementChild;
    arrange(list, this.items(log.entries));
    if (this.earlier) this.earlier.hidden = log.earlier === null;
    if (this.none) this.none.hidden = log.entries.length > 0;
    if (this.following) view.scrollTop = view.scrollHeight;
    else if (firstBefore !== list.firstElementChild) view.scrollTop = view.scrollHeight - fromEnd;
    this.seen();
  }

  /**
   * @param {LogEntry[]} entries
   * @returns {HTMLLIElement[]}
   */
  items(entries) {
    const me = this.state?.me?.member;
    /** @type {Map<number, {key: string, item: HTMLLIElement}>} */
    const drawn = new Map();
    /** @type {LogEntry | null} */
    let before = null;
    const today = new Date();
    for (const entry of entries) {
      const on = day(entry.received, today);
      const newDay = !before || day(before.received, today) !== on;
      const together =
        !newDay &&
        before?.author === entry.author &&
        Date.parse(entry.received) - Date.parse(before.received) < TOGETHER_MS;
      const own = entry.author === me;
      const held = (entry.held_by_names ?? entry.held_by).join("\n");
      const key = [entry.id, entry.state, held, newDay && on, together].join("\n");
      const old = this.drawn?.get(entry.number);
      const item = old?.key === key ? old.item : message(entry, own, newDay ? on : null, together);
      drawn.set(entry.number, { key, item });
      before = entry;
    }
    this.drawn = drawn;
    return [...drawn.values()].map(({ item }) => item);
  }

  scrolled() {
    const { view } = this;
    if (!view) return;
    this.following = view.scrollHeight - view.scrollTop - view.clientHeight < NEAR_END;
    if (view.scrollTop < 40 && this.state?.log?.earlier) this.older();
    this.seen();
  }

  toEnd() {
    if (!this.view) return;
    this.view.scrollTop = this.view.scrollHeight;
    this.view.focus();
  }

  async older() {
    if (this.reading) return;
    this.reading = true;
    try {
      await this.daemon?.readEarlier();
    } catch (error) {
      this.failed?.(error);
    } finally {
      this.reading = false;
    }
  }

  /** Says what was shown, if somebody can see it. */
  seen() {
    const unread = this.state?.open()?.unread ?? 0;
    if (this.newer) this.newer.hidden = this.following || unread === 0;
    if (unread > 0 && this.following && document.visibilityState === "visible") this.daemon?.markShown();
  }
}

/**
 * @param {LogEntry} entry
 * @param {boolean} own
 * @param {string | null} newDay
 * @param {boolean} together
 * @returns {HTMLLIElement}
 */
function message(entry, own, newDay, together) {
  const time = h("time", { datetime: entry.received, title: `written ${moment(entry.sent)}` }, clock(entry.received));
  const state = own && h("span", { class: `state ${entry.state}` }, icon(entry.state), progress(entry));
  return h(
    "li",
    {},
    newDay && h("p", { class: "day" }, newDay),
    h(
      "div",
      { class: `message${own ? " own" : ""}${together ? " together" : ""}` },
      h("p", { class: together ? "by unseen" : "by" }, h("bdi", {}, own ? "You" : plainLine(entry.author_name))),
      h("p", { class: "text", dir: "auto" }, plain(entry.text)),
      h("p", { class: "meta" }, time, state),
    ),
  );
}

customElements.define("oob-talk", Talk);
