/**
 * The top line: which organisation, who you are, who is with you.
 */

import { fill, h, icon } from "./element.js";
import { plainLine } from "./plain.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./sound.js").Sound} Sound
 */

/** What the buttons do. @typedef {{raise: () => void, book: () => void, jump: () => void, leave: () => void}} Verbs */

export class Header extends HTMLElement {
  /**
   * @param {State} state
   * @param {Sound} sound
   * @param {Verbs} verbs
   */
  begin(state, sound, verbs) {
    this.org = h("h1", { class: "org", dir: "auto" });
    this.name = h("p", { class: "who" });
    this.mesh = h("p", { class: "mesh" });
    this.sound = h("button", { type: "button", onclick: () => sound.turn(!sound.on) });
    this.raise = h("button", { type: "button", class: "strong", onclick: verbs.raise }, "Raise an alert");
    this.book = h("button", { type: "button", onclick: verbs.book }, "Alerts");
    fill(
      this,
      h("div", { class: "names" }, this.org, this.name),
      this.mesh,
      h(
        "div",
        { class: "tools" },
        h("button", { type: "button", onclick: verbs.jump, "aria-keyshortcuts": "Control+K" }, "Find", h("span", { class: "long" }, " a person")),
        this.book,
        this.sound,
        this.raise,
        h("button", { type: "button", onclick: verbs.leave }, "Leave"),
      ),
    );
    const show = () => this.show(state);
    state.watch(["people", "alerts", "connection"], show);
    const turned = () => this.sounds(sound.on);
    sound.addEventListener("turned", turned);
    turned();
    show();
  }

  /** @param {boolean} on */
  sounds(on) {
    if (!this.sound) return;
    this.sound.setAttribute("aria-pressed", String(on));
    fill(this.sound, icon(on ? "sound" : "silent"), on ? "Sound is on" : "Turn sound on");
  }

  /** @param {State} state */
  show(state) {
    const { me } = state;
    if (!me || !this.org || !this.name || !this.mesh || !this.raise || !this.book) return;
    fill(this.org, plainLine(me.org_name ?? "No organisation yet"));
    fill(this.name, "You are ", h("bdi", {}, plainLine(me.name)));
    this.raise.hidden = state.alerts === null;
    this.book.hidden = state.alerts === null;
    const { near, all } = state.island();
    if (state.status === null || all === 0) fill(this.mesh);
    else if (!state.connected) fill(this.mesh, icon("away"), "not known now");
    else if (all === 1) fill(this.mesh, icon("away"), "nobody else has joined yet");
    else if (near === 1) fill(this.mesh, icon("away"), `you are alone: 1 of ${all}`);
    else if (near === all) fill(this.mesh, icon("near"), `everybody is in reach: ${near} of ${all}`);
    else fill(this.mesh, icon("near"), `you are with ${near} of ${all}`);
  }
}

customElements.define("oob-header", Header);
