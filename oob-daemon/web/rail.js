/**
 * The people at the left: who is in reach, what of them was not read yet. One of them is in the order of Tab; the arrow keys
 * go on from there.
 */

import { arrange, fill, h, icon } from "./element.js";
import { plainLine } from "./plain.js";
import { ago, count } from "./words.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Person} Person
 */

/** Above this only "99+" is said. */
const COUNTED = 99;

export class Rail extends HTMLElement {
  /**
   * @param {State} state
   * @param {(member: string) => void} open
   */
  begin(state, open) {
    this.state = state;
    this.open = open;
    /** Whose button Tab reaches. @type {string | null} */
    this.roving = null;
    /** One for each person, kept as long as the person is there. @type {Map<string, HTMLLIElement>} */
    this.rows = new Map();
    this.items = h("ul", { class: "people", onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event) });
    this.none = h(
      "p",
      { class: "hint" },
      "Nobody else yet. Invite somebody: ",
      h("code", {}, "oob invite --out FILE"),
    );
    fill(this, h("h2", { id: "rail-title" }, "People"), this.items, this.none);
    const show = () => this.show();
    state.watch(["people", "open", "connection"], show);
    // "4 min ago" grows old by itself.
    setInterval(show, 30_000);
    show();
  }

  /** @returns {HTMLButtonElement[]} */
  buttons() {
    return [...this.querySelectorAll("button")];
  }

  /** @param {string} member */
  focusOn(member) {
    this.buttons().find((button) => button.dataset.member === member)?.focus();
  }

  show() {
    const { state, items, none } = this;
    if (!state || !items || !none) return;
    const people = state.people();
    const current = state.log?.member ?? null;
    const known = new Set(people.map((person) => person.member));
    if (!this.roving || !known.has(this.roving)) this.roving = current ?? people[0]?.member ?? null;
    arrange(items, people.map((person) => this.row(person, current)));
    none.hidden = people.length > 0 || state.status === null;
  }

  /**
   * @param {Person} person
   * @param {string | null} current
   * @returns {HTMLLIElement}
   */
  row(person, current) {
    const { member } = person;
    let row = this.rows?.get(member);
    if (!row) {
      const open = () => this.open?.(member);
      row = h("li", {}, h("button", { type: "button", "data-member": member, onclick: open, onfocus: () => this.rove(member) }));
      this.rows?.set(member, row);
    }
    const button = /** @type {HTMLButtonElement} */ (row.firstElementChild);
    button.className = person.reachable ? "person near" : "person";
    button.tabIndex = member === this.roving ? 0 : -1;
    if (member === current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    const number = person.unread > COUNTED ? `${COUNTED}+` : person.unread;
    const unread = h("span", { class: "badge" }, number, h("span", { class: "unseen" }, " unread"));
    fill(
      button,
      icon(person.reachable ? "near" : "away"),
      h("bdi", { class: "name" }, plainLine(person.name)),
      person.unread > 0 && unread,
      h("span", { class: "where" }, whereabouts(person)),
    );
    return row;
  }

  /** @param {string} member */
  rove(member) {
    this.roving = member;
    for (const button of this.buttons()) button.tabIndex = button.dataset.member === member ? 0 : -1;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const buttons = this.buttons();
    const at = buttons.findIndex((button) => button === document.activeElement);
    const last = buttons.length - 1;
    const to = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    buttons[to].focus();
  }
}

/**
 * Returns where a person is, as far as is known here.
 *
 * @param {Person} person
 * @returns {string}
 */
export function whereabouts(person) {
  if (!person.known) return "not known now";
  if (person.reachable) return "in reach";
  const by = person.heardBy ? ` by ${plainLine(person.heardBy)}` : "";
  const heard = person.lastHeard ? `last heard ${ago(person.lastHeard)}${by}` : "not heard yet";
  return person.held > 0 ? `${heard} · ${count(person.held, "message")} held for them` : heard;
}

customElements.define("oob-rail", Rail);
