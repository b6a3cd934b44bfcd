/**
 * Where a message is written. Enter sends, Shift and Enter make a new line.
 */

import { wrong } from "./api.js";
import { fill, h } from "./element.js";
import { plainLine } from "./plain.js";
import { bytes, count } from "./words.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./daemon.js").Daemon} Daemon
 */

/** Longest message, in bytes as it travels. */
export const TEXT_BYTES = 8192;

/** From here on it is said how much room is left. */
const WARN_BYTES = 500;

export class Composer extends HTMLElement {
  /**
   * @param {State} state
   * @param {Daemon} daemon
   */
  begin(state, daemon) {
    this.state = state;
    this.daemon = daemon;
    /** @type {string | null} */
    this.member = null;
    this.sending = false;
    this.text = h("textarea", {
      id: "composer-text",
      rows: 2,
      dir: "auto",
      "aria-describedby": "composer-room",
      // A browser must neither keep what is written here nor ask anybody how it is spelled.
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.changed(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
    });
    this.label = h("label", { for: "composer-text", class: "unseen" });
    this.room = h("p", { class: "room", id: "composer-room" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.button = h("button", { type: "submit", class: "strong" }, "Send");
    const form = h(
      "form",
      {
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          this.send();
        },
      },
      this.label,
      this.text,
      this.button,
    );
    fill(this, form, h("div", { class: "below" }, this.room, this.problem));
    state.watch(["open", "people"], () => this.show());
    this.show();
  }

  show() {
    const person = this.state?.open() ?? null;
    this.hidden = person === null;
    if (!person || !this.text || !this.label) return;
    const name = plainLine(person.name);
    fill(this.label, `Message to ${name}`);
    this.text.placeholder = `Message to ${name}`;
    if (this.member === person.member) return;
    this.member = person.member;
    this.text.value = this.state?.drafts.get(person.member) ?? "";
    fill(this.problem ?? this);
    this.measure();
  }

  changed() {
    if (this.member && this.text) this.state?.drafts.set(this.member, this.text.value);
    this.measure();
  }

  measure() {
    if (!this.text || !this.room || !this.button) return;
    const left = TEXT_BYTES - bytes(this.text.value);
    const words =
      left < 0
        ? `${count(-left, "byte")} too long`
        : left < WARN_BYTES
          ? `room for ${count(left, "byte")}`
          : "Enter sends, Shift + Enter makes a new line";
    if (this.room.textContent !== words) fill(this.room, words);
    this.room.classList.toggle("over", left < 0);
    this.button.disabled = left < 0;
    // As tall as what is in it, up to what the style allows.
    this.text.rows = Math.min(8, Math.max(2, this.text.value.split("\n").length));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.send();
  }

  async send() {
    const { text, member, problem } = this;
    if (!text || !member || !problem || this.sending) return;
    const { value } = text;
    if (value.trim() === "" || bytes(value) > TEXT_BYTES) return;
    this.sending = true;
    text.readOnly = true;
    fill(problem);
    try {
      await this.daemon?.send(member, value);
      this.state?.drafts.delete(member);
      if (this.member === member) text.value = "";
    } catch (error) {
      fill(problem, wrong(error));
    } finally {
      this.sending = false;
      text.readOnly = false;
      this.measure();
    }
  }
}

customElements.define("oob-composer", Composer);
