/**
 * The dialogs: raising an alert, all alerts with who has acknowledged them, finding a person. Esc closes each of them, and
 * focus goes back to where it was.
 */

import { SEVERITY, severity, tally } from "./alerts.js";
import { wrong } from "./api.js";
import { fill, h, icon } from "./element.js";
import { plain, plainLine } from "./plain.js";
import { whereabouts } from "./rail.js";
import { bytes, count, list, moment, people } from "./words.js";

/**
 * @typedef {import("./types.js").Alert} Alert
 * @typedef {import("./types.js").Severity} Severity
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Person} Person
 * @typedef {import("./daemon.js").Daemon} Daemon
 */

/** Longest text of an alert, in bytes as it travels. */
const ALERT_BYTES = 2048;

/** Alerts in the list: the newest of them. */
const LISTED = 50;

/** What each severity is for. @type {Record<Severity, string>} */
const MEANING = {
  info: "to be known",
  warning: "to be acted on",
  critical: "to be acted on at once; sounds until acknowledged",
};

/**
 * Shows a dialog, and takes it away when it is closed.
 *
 * @param {HTMLDialogElement} dialog
 */
function show(dialog) {
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/**
 * Asks for an alert and, before it goes out, whether it shall go to so many people.
 *
 * @param {State} state
 * @param {Daemon} daemon
 */
export function raise(state, daemon) {
  const others = state.people().length;
  const text = h("textarea", { id: "alert-text", rows: 3, dir: "auto", autocomplete: "off", spellcheck: "false", "aria-describedby": "alert-room" });
  const room = h("p", { class: "room", id: "alert-room" });
  const problem = h("p", { class: "problem", role: "alert" });
  const choices = /** @type {Severity[]} */ (["info", "warning", "critical"]).map((one) => {
    const input = h("input", { type: "radio", name: "severity", value: one, checked: one === "warning" });
    return h("label", { class: `choice ${one}` }, input, icon(one), h("span", {}, h("strong", {}, SEVERITY[one]), ` ${MEANING[one]}`));
  });
  const chosen = () => severity(choices.map((label) => label.querySelector("input")).find((input) => input?.checked)?.value ?? "");
  const title = h("h2", { id: "raise-title" }, "Raise an alert");
  const write = h("div", {}, h("fieldset", {}, h("legend", {}, "How urgent"), ...choices), h("label", { for: "alert-text" }, "What everybody must know"), text, room);
  const check = h("div", { hidden: true });
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const back = h("button", { type: "button", hidden: true, onclick: () => ask(false) }, "Change it");
  const go = h("button", { type: "submit", class: "strong" }, "Continue");
  let asking = false;

  /** @param {boolean} whether */
  function ask(whether) {
    asking = whether;
    write.hidden = whether;
    check.hidden = !whether;
    back.hidden = !whether;
    fill(go, whether ? `Send to ${people(others)}` : "Continue");
    fill(title, whether ? "Send this alert?" : "Raise an alert");
    if (!whether) {
      text.focus();
      return;
    }
    const kind = chosen();
    fill(
      check,
      h("p", { class: "kind" }, icon(kind), h("span", {}, h("strong", {}, SEVERITY[kind]), ` to everybody: ${people(others)}`)),
      h("p", { class: "text quoted", dir: "auto" }, plain(text.value)),
      kind === "critical" && h("p", { class: "hint" }, "Their pages sound until they acknowledge it."),
    );
    go.focus();
  }

  function measure() {
    const left = ALERT_BYTES - bytes(text.value);
    fill(room, left < 0 ? `${count(-left, "byte")} too long` : left < 300 ? `room for ${count(left, "byte")}` : "One or two sentences: what happened, what to do.");
    room.classList.toggle("over", left < 0);
    go.disabled = left < 0;
    fill(problem);
  }

  async function submit(/** @type {Event} */ event) {
    event.preventDefault();
    fill(problem);
    if (text.value.trim() === "") {
      fill(problem, "Write what everybody must know.");
      text.focus();
      return;
    }
    if (!asking) {
      ask(true);
      return;
    }
    go.disabled = true;
    try {
      await daemon.raise(text.value, chosen());
      dialog.close();
    } catch (error) {
      fill(problem, wrong(error));
      go.disabled = false;
    }
  }

  text.addEventListener("input", measure);
  const buttons = h("div", { class: "buttons" }, cancel, back, go);
  const dialog = h("dialog", { "aria-labelledby": "raise-title" }, h("form", { onsubmit: submit }, title, write, check, problem, buttons));
  measure();
  show(dialog);
}

/**
 * Shows all alerts and who has acknowledged them.
 *
 * @param {State} state
 */
export function book(state) {
  const items = h("div", { class: "book", tabindex: 0, role: "region", "aria-labelledby": "book-title" });
  const draw = () => {
    const alerts = (state.alerts ?? []).slice(0, LISTED);
    fill(items, ...alerts.map(entry), alerts.length === 0 && h("p", { class: "hint" }, "No alert was raised yet."));
  };
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog", { class: "wide", "aria-labelledby": "book-title" }, h("h2", { id: "book-title" }, "Alerts"), items, h("div", { class: "buttons" }, close));
  draw();
  show(dialog);
  close.focus();
}

/**
 * @param {Alert} alert
 * @returns {HTMLElement}
 */
function entry(alert) {
  const kind = severity(alert.severity);
  const answers = alert.acked.map((one) => {
    const answer = one.answer ? `: ${plainLine(one.answer)}` : "";
    return h("li", {}, h("bdi", {}, plainLine(one.name)), `${answer}, ${moment(one.time)}`);
  });
  return h(
    "article",
    { class: `alert ${kind}` },
    h("p", { class: "kind" }, icon(kind), h("span", {}, h("strong", {}, SEVERITY[kind]), " from ", alert.outgoing ? "you" : h("bdi", {}, plainLine(alert.author_name)), ` · ${moment(alert.issued)}`)),
    h("p", { class: "text", dir: "auto" }, plain(alert.text)),
    h("p", { class: "tally" }, tally(alert)),
    answers.length > 0 && h("ul", { class: "answers" }, ...answers),
    alert.pending.length > 0 && h("p", { class: "tally" }, `not yet: ${list(alert.pending_names ?? alert.pending)}`),
    alert.unreachable.length > 0 && h("p", { class: "tally" }, `out of reach: ${list(alert.unreachable_names ?? alert.unreachable)}`),
  );
}

/**
 * Finds a person by the letters of the name.
 *
 * @param {State} state
 * @param {(member: string) => void} open
 */
export function jump(state, open) {
  if (document.querySelector("dialog[open]")) return;
  /** @type {Person[]} */
  let found = [];
  let at = 0;
  const input = h("input", {
    type: "text",
    role: "combobox",
    "aria-label": "Name",
    "aria-expanded": "true",
    "aria-controls": "jump-list",
    "aria-autocomplete": "list",
    autocomplete: "off",
    spellcheck: "false",
  });
  const options = h("ul", { id: "jump-list", role: "listbox", "aria-label": "People", class: "people" });
  const none = h("p", { class: "hint", role: "status" });

  function choose(/** @type {Person | undefined} */ person) {
    if (!person) return;
    dialog.close();
    open(person.member);
  }

  function draw() {
    const wanted = input.value.trim().toLocaleLowerCase();
    found = state.people().filter((person) => person.name.toLocaleLowerCase().includes(wanted));
    at = Math.max(0, Math.min(at, found.length - 1));
    const rows = found.map((person, index) =>
      h(
        "li",
        {
          role: "option",
          id: `jump-${index}`,
          class: person.reachable ? "person near" : "person",
          "aria-selected": String(index === at),
          onclick: () => choose(person),
        },
        icon(person.reachable ? "near" : "away"),
        h("bdi", { class: "name" }, plainLine(person.name)),
        h("span", { class: "where" }, whereabouts(person)),
      ),
    );
    fill(options, ...rows);
    options.hidden = found.length === 0;
    input.setAttribute("aria-expanded", String(found.length > 0));
    if (found.length > 0) input.setAttribute("aria-activedescendant", `jump-${at}`);
    else input.removeAttribute("aria-activedescendant");
    rows[at]?.scrollIntoView({ block: "nearest" });
    fill(none, found.length === 0 && "Nobody of that name.");
  }

  input.addEventListener("input", () => {
    at = 0;
    draw();
  });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Enter") choose(found[at]);
    if (step !== undefined) {
      at += step;
      draw();
    }
    if (step !== undefined || event.key === "Enter") event.preventDefault();
  });
  const dialog = h("dialog", { "aria-labelledby": "jump-title" }, h("h2", { id: "jump-title" }, "Find a person"), input, options, none);
  draw();
  show(dialog);
  input.focus();
}
