/**
 * The banner: what somebody was asked to acknowledge, and how far the own alerts have come.
 */

import { wrong } from "./api.js";
import { arrange, fill, h, icon } from "./element.js";
import { plain, plainLine } from "./plain.js";
import { over } from "./state.js";
import { list, moment } from "./words.js";

/**
 * @typedef {import("./types.js").Alert} Alert
 * @typedef {import("./types.js").Severity} Severity
 * @typedef {import("./state.js").State} State
 * @typedef {import("./daemon.js").Daemon} Daemon
 * @typedef {import("./sound.js").Sound} Sound
 */

/** What each severity is called. @type {Record<Severity, string>} */
export const SEVERITY = { info: "Information", warning: "Warning", critical: "Critical" };

/** How loud each is, the loudest first. @type {Severity[]} */
const LOUDEST = ["critical", "warning", "info"];

/** Alerts shown at once; the rest is in the list of all. */
const SHOWN = 5;

/** Returns one of the three severities, the middle one for a word of a later version. @param {string} word @returns {Severity} */
export function severity(word) {
  return word === "info" || word === "critical" ? word : "warning";
}

/**
 * Returns how many acknowledged an alert, of how many who were asked.
 *
 * @param {Alert} alert
 */
export function tally(alert) {
  return `${alert.acked.length} of ${alert.acked.length + alert.pending.length + alert.unreachable.length} acknowledged`;
}

export class Alerts extends HTMLElement {
  /**
   * @param {State} state
   * @param {Daemon} daemon
   * @param {Sound} sound
   */
  begin(state, daemon, sound) {
    this.state = state;
    this.daemon = daemon;
    this.sound = sound;
    /** @type {Map<string, {item: HTMLElement, foot: HTMLElement, problem: HTMLElement}>} */
    this.drawn = new Map();
    /** Those that sounded once. @type {Set<string>} */
    this.sounded = new Set();
    this.more = h("p", { class: "hint" });
    state.watch(["alerts", "people"], () => this.show());
    sound.addEventListener("turned", () => this.show());
    this.show();
  }

  /** Returns what is shown: what waits for this person first, loudest first, then the own alerts. */
  wanted() {
    const { state } = this;
    if (!state) return [];
    const asked = (state.alerts ?? []).filter((alert) => state.asks(alert));
    asked.sort((a, b) => LOUDEST.indexOf(severity(a.severity)) - LOUDEST.indexOf(severity(b.severity)));
    // What is settled stays until it is put away, so that nothing vanishes from under a hand.
    const waits = (/** @type {Alert} */ alert) => alert.outgoing && alert.pending.length + alert.unreachable.length > 0;
    const told = (state.alerts ?? []).filter(
      (alert) => !state.asks(alert) && !over(alert) && !state.hidden.has(alert.id) && (waits(alert) || this.drawn?.has(alert.id)),
    );
    return [...asked, ...told];
  }

  show() {
    const { state, drawn, more } = this;
    if (!state || !drawn || !more) return;
    const wanted = this.wanted();
    const shown = wanted.slice(0, SHOWN);
    const items = shown.map((alert) => this.item(alert));
    if (wanted.length > SHOWN) {
      fill(more, `${wanted.length - SHOWN} more: open the list of alerts.`);
      items.push(more);
    }
    arrange(this, items);
    const ids = new Set(shown.map((alert) => alert.id));
    for (const id of drawn.keys()) if (!ids.has(id)) drawn.delete(id);
    const waiting = wanted.filter((alert) => state.asks(alert));
    for (const alert of waiting) {
      if (this.sounded?.has(alert.id)) continue;
      this.sounded?.add(alert.id);
      if (severity(alert.severity) !== "critical") this.sound?.play(severity(alert.severity));
    }
    this.sound?.insist(waiting.some((alert) => alert.severity === "critical"));
  }

  /**
   * @param {Alert} alert
   * @returns {HTMLElement}
   */
  item(alert) {
    const kind = severity(alert.severity);
    let drawn = this.drawn?.get(alert.id);
    if (!drawn) {
      const from = alert.outgoing ? "from you" : ["from ", h("bdi", {}, plainLine(alert.author_name))];
      const foot = h("div", { class: "foot" });
      const problem = h("p", { class: "problem", role: "alert" });
      // The alert is said once; what changes below it is not said again.
      const said = h(
        "div",
        { class: "said", role: "alert" },
        h("p", { class: "kind" }, icon(kind), h("span", {}, h("strong", {}, SEVERITY[kind]), " ", ...[from].flat(), ` · ${moment(alert.issued)}`)),
        h("p", { class: "text", dir: "auto" }, plain(alert.text)),
      );
      drawn = { item: h("article", { "data-alert": alert.id }, said, foot, problem), foot, problem };
      this.drawn?.set(alert.id, drawn);
    }
    const asks = this.state?.asks(alert) ?? false;
    drawn.item.className = `alert ${kind}${asks ? "" : " done"}`;
    this.foot(alert, asks, drawn.foot);
    return drawn.item;
  }

  /**
   * @param {Alert} alert
   * @param {boolean} asks
   * @param {HTMLElement} foot
   */
  foot(alert, asks, foot) {
    const silent = asks && alert.severity === "critical" && !this.sound?.on;
    const missing = [
      ...(alert.pending.length > 0 ? [`waiting for ${list(alert.pending_names ?? [])}`] : []),
      ...(alert.unreachable.length > 0 ? [`out of reach: ${list(alert.unreachable_names ?? [])}`] : []),
    ].filter((words) => !/(for|reach:) $/.test(words));
    const words = [tally(alert), ...(alert.outgoing ? missing : [])].join(" · ");
    let button = foot.querySelector("button");
    if (!button || button.dataset.asks !== String(asks)) {
      const verb = asks ? () => this.acknowledge(alert.id) : () => this.hide(alert.id);
      button = h("button", { type: "button", class: asks ? "strong" : "", "data-asks": asks ? "true" : "false", onclick: verb }, asks ? "Acknowledge" : "Hide");
      button.dataset.asks = String(asks);
      fill(foot, button, h("span", { class: "tally" }));
    }
    const tallied = foot.querySelector(".tally");
    const done = !asks && !alert.outgoing ? "You acknowledged · " : "";
    if (tallied) fill(tallied, done, words, silent && " · sound is off");
  }

  /** @param {string} id */
  async acknowledge(id) {
    const drawn = this.drawn?.get(id);
    const button = drawn?.foot.querySelector("button");
    if (!drawn || !button || button.disabled) return;
    button.disabled = true;
    fill(drawn.problem);
    try {
      await this.daemon?.acknowledge(id);
      drawn.foot.querySelector("button")?.focus();
    } catch (error) {
      fill(drawn.problem, wrong(error));
      button.disabled = false;
    }
  }

  /** @param {string} id */
  hide(id) {
    this.state?.hidden.add(id);
    this.state?.changed("alerts");
  }
}

customElements.define("oob-alerts", Alerts);
