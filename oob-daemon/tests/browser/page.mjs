// One open page, and everything that must not happen in it.

import assert from "node:assert/strict";

/** Runs in every page before anything of it. */
function watch() {
  Object.assign(window, { __ran: [], __violations: [], __tones: 0, __repeats: new Set() });
  Object.assign(window, { ran: (what) => window.__ran.push(String(what)) });
  window.alert = (what) => window.__ran.push(`alert ${what}`);
  addEventListener("securitypolicyviolation", (event) =>
    window.__violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`),
  );
  const { createOscillator } = AudioContext.prototype;
  AudioContext.prototype.createOscillator = function (...args) {
    window.__tones += 1;
    return createOscillator.apply(this, args);
  };
  // What sounds again and again is a timer of four seconds.
  const { setInterval: begin, clearInterval: end } = window;
  window.setInterval = (run, every, ...rest) => {
    const id = begin(run, every, ...rest);
    if (every === 4000) window.__repeats.add(id);
    return id;
  };
  window.clearInterval = (id) => {
    window.__repeats.delete(id);
    end(id);
  };
}

/** How long anything on the page may take; the people are on this machine. */
const PATIENCE_MS = 60_000;

export class Pages {
  constructor(browser, axe, shots, expected) {
    this.browser = browser;
    this.axe = axe;
    this.shots = shots;
    this.expected = expected;
  }

  /** Opens a page in a browser of its own; `expected` are the statuses of answers that may say no. */
  async open(url, { width = 1280, height = 800, dark = false, axe = false, scale = 1, expected = [], before } = {}) {
    const context = await this.browser.newContext({
      viewport: { width, height },
      deviceScaleFactor: scale,
      colorScheme: dark ? "dark" : "light",
      reducedMotion: "reduce",
      // The checker of accessibility is itself a script from elsewhere; all else runs under the page's own policy.
      bypassCSP: axe,
    });
    await context.addInitScript(watch);
    context.setDefaultTimeout(PATIENCE_MS);
    const page = await context.newPage();
    const wrong = [];
    page.on("console", (message) => {
      const refused = [...expected, ...this.expected].some((status) => message.text().includes(`status of ${status}`));
      if (["error", "warning"].includes(message.type()) && !refused) wrong.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => wrong.push(`error: ${error.stack}`));
    page.on("dialog", (dialog) => {
      wrong.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(new URL(url).origin)) wrong.push(`request: ${request.url()}`);
    });
    if (before) await before(context);
    await page.goto(url);
    return new Page(this, context, page, wrong);
  }
}

export class Page {
  constructor(pages, context, page, wrong) {
    this.pages = pages;
    this.context = context;
    this.page = page;
    this.wrong = wrong;
  }

  /** Waits until the page says who is with whom. */
  async ready() {
    await this.page.locator(".mesh:not(:empty)").waitFor();
    return this;
  }

  get(selector, options) {
    return this.page.locator(selector, options);
  }

  async open(name) {
    await this.page.locator("oob-rail button", { hasText: name }).click();
    await this.page.locator("#talk-title", { hasText: name }).waitFor();
  }

  /** Waits until a text stands in the conversation. */
  async shows(text) {
    await this.page.locator(".message .text", { hasText: text }).last().waitFor();
  }

  async shot(name) {
    if (this.pages.shots) await this.page.screenshot({ path: `${this.pages.shots}/${name}.png` });
  }

  async violations() {
    await this.page.evaluate(this.pages.axe);
    const { violations } = await this.page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n  ")}`);
  }

  async accessible(state) {
    assert.deepEqual(await this.violations(), [], state);
  }

  /** Checks that nothing ran, nothing was refused by the policy and nothing was complained about; then closes it. */
  async close() {
    const { ran, violations } = await this.page.evaluate(() => ({ ran: window.__ran, violations: window.__violations }));
    assert.deepEqual({ ran, violations, wrong: this.wrong }, { ran: [], violations: [], wrong: [] });
    // Words of those who built it are not for those who use it.
    assert.doesNotMatch(await this.page.locator("body").innerText(), /custody|epoch|anti-entropy|peer id/i);
    await this.context.close();
  }
}
