/**
 * The page: comes in, puts the parts together, and says aloud what happens.
 */

import "./header.js";
import "./rail.js";
import "./talk.js";
import "./composer.js";
import "./alerts.js";
import { wrong } from "./api.js";
import { Daemon } from "./daemon.js";
import { book, jump, raise } from "./dialogs.js";
import { fill, h } from "./element.js";
import { plainLine } from "./plain.js";
import { Sound } from "./sound.js";
import { State } from "./state.js";

/**
 * @typedef {import("./header.js").Header} Header
 * @typedef {import("./rail.js").Rail} Rail
 * @typedef {import("./talk.js").Talk} Talk
 * @typedef {import("./composer.js").Composer} Composer
 * @typedef {import("./alerts.js").Alerts} Alerts
 * @typedef {import("./types.js").LogEntry} LogEntry
 */

/** Most of a message that is said aloud; the rest can be read. */
const SAID = 200;

/**
 * Makes one of our elements.
 *
 * @template {HTMLElement} T
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @returns {T}
 */
function make(tag, attributes = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return /** @type {T} */ (element);
}

/**
 * Says how to get in, in the place of everything else.
 *
 * @param {string} why
 * @param {...(string | Node)} next
 */
function outside(why, ...next) {
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  document.title = "oob";
  fill(document.body, h("main", { class: "outside" }, h("h1", {}, "oob"), h("p", {}, why), h("p", {}, ...next)));
}

/** @param {string} why */
function closed(why) {
  outside(why, "To get in, run: ", h("code", {}, "oob web"));
}

/**
 * @param {State} state
 * @param {Daemon} daemon
 */
function inside(state, daemon) {
  const sound = new Sound();
  const lost = h("div", { class: "lost", role: "alert" });
  const notice = h("div", { class: "notice", role: "alert" });
  const said = h("div", { class: "unseen", "aria-live": "polite" });
  /** @type {Header} */
  const header = make("oob-header", { role: "banner" });
  /** @type {Alerts} */
  const alerts = make("oob-alerts", { role: "region", "aria-label": "Alerts" });
  /** @type {Rail} */
  const rail = make("oob-rail", { role: "navigation", "aria-labelledby": "rail-title" });
  /** @type {Talk} */
  const talk = make("oob-talk");
  /** @type {Composer} */
  const composer = make("oob-composer");
  const main = h("main", { id: "main", tabindex: -1 }, talk, composer);
  const skip = h("a", { class: "skip", href: "#main", onclick: skipped }, "Skip to the conversation");

  /** @param {Event} event */
  function skipped(event) {
    // Without a change of the address, which a screen reader would not mind and the history would.
    event.preventDefault();
    (main.querySelector("textarea:not([hidden])")?.checkVisibility() ? main.querySelector("textarea") : main)?.focus();
  }

  /** @param {unknown} error */
  function failed(error) {
    const away = h("button", { type: "button", onclick: () => fill(notice) }, "Hide");
    fill(notice, wrong(error), " ", away);
  }

  /** @param {string} member */
  async function open(member) {
    try {
      await daemon.open(member);
    } catch (error) {
      failed(error);
    }
  }

  fill(document.body, skip, header, h("div", { class: "strips" }, lost, notice, alerts), h("div", { class: "columns" }, rail, main), said);
  header.begin(state, sound, {
    raise: () => raise(state, daemon),
    book: () => book(state),
    jump: () => jump(state, open),
    leave: () => daemon.leave(),
  });
  alerts.begin(state, daemon, sound);
  rail.begin(state, open);
  talk.begin(state, daemon, failed);
  composer.begin(state, daemon);

  state.watch(["open"], () => {
    document.body.classList.toggle("talking", state.log !== null);
    if (state.log === null) rail.focusOn(rail.roving ?? "");
  });
  state.watch(["connection"], () => {
    fill(lost, !state.connected && "The daemon does not answer. What you see may be old; trying again. If it was restarted, run: oob web");
  });
  state.watch(["people", "alerts"], () => {
    const waiting = (state.alerts ?? []).filter((alert) => state.asks(alert)).length;
    const org = state.me?.org_name ? ` · ${plainLine(state.me.org_name)}` : "";
    const marks = [waiting > 0 && "ALERT", state.unread() > 0 && `(${state.unread()})`].filter(Boolean);
    document.title = [...marks, `oob${org}`].join(" ");
  });
  daemon.addEventListener("arrival", (event) => {
    const { author_name, text } = /** @type {CustomEvent<LogEntry>} */ (event).detail;
    fill(said, `${plainLine(author_name)}: ${plainLine(text).slice(0, SAID)}`);
  });
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      jump(state, open);
    } else if (event.key === "Escape" && state.log && !event.defaultPrevented && !document.querySelector("dialog[open]")) {
      rail.focusOn(state.log.member);
    }
  });
  daemon.follow();
}

async function begin() {
  const state = new State();
  const daemon = new Daemon(state);
  daemon.addEventListener("out", () => closed("You are out: this page's session has ended."));
  const came = location.hash.startsWith("#t=");
  try {
    if (await daemon.enter()) inside(state, daemon);
    else closed(came ? "This way in was used already, or is over a minute old." : "This page is for the user of this machine.");
  } catch (error) {
    outside(wrong(error), h("button", { type: "button", onclick: () => location.reload() }, "Try again"));
  }
}

begin();
