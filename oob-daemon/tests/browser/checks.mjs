// What must hold of the page, one function each. `world` has two people who met, Dana (whose page it is) and Sam, a third,
// who joined and went away, and pages to open.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HIDING, MARKUP } from "./payloads.mjs";

/** Checks the types of the scripts, and that the checker sees a mistake. */
async function types_are_right({ web, tsc }) {
  const folder = mkdtempSync(join(tmpdir(), "oob-types-"));
  const check = (include) => {
    const compilerOptions = {
      checkJs: true,
      allowJs: true,
      noEmit: true,
      strict: true,
      target: "es2022",
      module: "esnext",
      moduleResolution: "bundler",
      lib: ["es2023", "dom", "dom.iterable"],
      types: [],
      skipLibCheck: true,
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, include }));
    execFileSync(process.execPath, [tsc, "-p", folder], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  };
  try {
    check([join(web, "*.js")]);
    writeFileSync(join(folder, "mistake.js"), "/** @type {number} */\nexport const number = 'text';\n");
    assert.throws(() => check([join(folder, "mistake.js")]), /Command failed/);
  } catch (error) {
    throw error.stdout ? new Error(error.stdout) : error;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function a_ticket_lets_one_browser_in_and_then_no_other({ dana, pages }) {
  const url = dana.ticket();
  const first = await (await pages.open(url)).ready();
  assert.equal(first.page.url(), `${dana.url}/`);
  const [cookie] = await first.context.cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, "Strict", "/"]);
  assert.equal(await first.page.evaluate(() => document.cookie), "");
  await first.get("h1", { hasText: "Harbour Clinic" }).waitFor();

  const second = await pages.open(url, { expected: [401] });
  await second.get(".outside", { hasText: "used already" }).waitFor();
  await second.get("code", { hasText: "oob web" }).waitFor();
  await second.close();
  const third = await pages.open(dana.url, { expected: [401] });
  await third.get("code", { hasText: "oob web" }).waitFor();
  await third.shot("outside");
  assert.doesNotMatch(await third.page.content(), /Harbour|Dana/);
  await third.close();

  // It stays through a reload, and not through leaving.
  await first.page.reload();
  await first.ready();
  const kept = `${cookie.name}=${cookie.value}`;
  const key = await first.page.evaluate(() => sessionStorage.getItem("key"));
  const asked = (headers) => fetch(`${dana.url}/api/v1/me`, { headers }).then(({ status }) => status);
  const me = () => asked({ Cookie: kept, "Oob-Page-Key": key });
  assert.equal(await me(), 200);
  // What the browser sends to another server of this machine lets nobody in.
  assert.equal(await asked({ Cookie: kept }), 401);
  // Another tab of the same browser is in as well.
  const tab = await first.context.newPage();
  await tab.goto(dana.url);
  await tab.locator("h1", { hasText: "Harbour Clinic" }).waitFor();
  await tab.close();
  await first.page.getByRole("button", { name: "Leave" }).click();
  await first.get(".outside").waitFor();
  assert.equal(await me(), 401);
  await first.close();
}

async function what_is_said_appears_by_itself_with_its_state({ dana, sam, pages }) {
  const page = await (await pages.open(dana.ticket())).ready();
  await page.page.evaluate(() => Object.assign(window, { mark: "not loaded again" }));
  await page.get("oob-rail button", { hasText: "Sam" }).locator(".where", { hasText: "in reach" }).waitFor();
  await page.get(".mesh", { hasText: "you are with 2 of 3" }).waitFor();
  await page.shot("empty");

  // Not open: counted. Open: shown, said aloud, and read.
  await sam.send("dana", "Are you there?");
  await page.get("oob-rail .badge", { hasText: "1" }).waitFor();
  await page.get("[aria-live=polite]", { hasText: "Sam: Are you there?" }).waitFor({ state: "attached" });
  assert.match(await page.page.title(), /^\(1\) oob/);
  await page.open("Sam");
  await page.shows("Are you there?");
  await page.get("oob-rail .badge").waitFor({ state: "detached" });
  await sam.send("dana", "The file server is down.\nDo not log in.");
  await page.shows("Do not log in.");
  const said = async () => (await sam.get("messages?target=dana&before=9007199254740991&limit=1")).messages[0];
  await until("the author is told it was read", async () => (await said()).state === "read");

  const text = page.page.getByRole("textbox", { name: "Message to Sam" });
  await text.fill("I am here.");
  await text.press("Shift+Enter");
  await text.pressSequentially("What happened?");
  await text.press("Enter");
  const own = page.get(".message.own", { hasText: "I am here.\nWhat happened?" });
  await own.locator(".state", { hasText: "delivered" }).waitFor();
  assert.equal(await text.inputValue(), "");
  const with_dana = (await sam.get("conversations")).conversations.find((one) => one.member_name === "Dana");
  await sam.ask(`conversations/${with_dana.conversation}/read`, { up_to: with_dana.latest.number });
  await own.locator(".state.read", { hasText: "read" }).waitFor();

  // To who never came, what is written waits here.
  await page.open("Rosa");
  await page.get(".bar .where", { hasText: "last heard" }).waitFor();
  await page.page.getByRole("textbox", { name: "Message to Rosa" }).fill("For when you are back.");
  await page.page.keyboard.press("Enter");
  await page.get(".message.own .state", { hasText: /stored here|held by/ }).last().waitFor();
  await page.open("Sam");
  await page.shot("conversation");
  assert.equal(await page.page.evaluate(() => window.mark), "not loaded again");
  await page.close();
}

async function a_text_has_room_for_8192_bytes_and_drafts_stay({ dana, pages }) {
  const page = await (await pages.open(dana.ticket())).ready();
  await page.open("Sam");
  const text = page.page.getByRole("textbox", { name: "Message to Sam" });
  await text.fill("é".repeat(4097));
  await page.get(".room.over", { hasText: "2 bytes too long" }).waitFor();
  assert.ok(await page.page.getByRole("button", { name: "Send" }).isDisabled());
  await text.press("Enter");
  assert.equal((await text.inputValue()).length, 4097);
  await text.fill("é".repeat(4096));
  await page.get(".room", { hasText: "room for 0 bytes" }).waitFor();
  await text.fill("half a thought");
  await page.open("Rosa");
  assert.equal(await page.page.getByRole("textbox", { name: "Message to Rosa" }).inputValue(), "");
  await page.open("Sam");
  assert.equal(await text.inputValue(), "half a thought");
  await page.close();
}

async function older_messages_come_on_asking_and_the_view_stays({ dana, sam, pages }) {
  const page = await (await pages.open(dana.ticket())).ready();
  await sam.send("dana", ...Array.from({ length: 120 }, (_, number) => `line ${number} of the report`));
  // All of them, or those that come while it is open are simply added to it, and nothing earlier is left to ask for.
  await dana.has("sam", "line 119 of the report");
  await page.open("Sam");
  await page.shows("line 119 of");
  const count = () => page.get(".message").count();
  const at_end = () => page.get(".scroll").evaluate((view) => view.scrollHeight - view.scrollTop - view.clientHeight < 3);
  assert.ok(await at_end(), "the newest message is in view");
  const before = await count();
  const first = page.get(".message .text").first();
  const oldest = await first.textContent();
  await page.get(".scroll").evaluate((view) => view.scrollTo(0, 0));
  await page.page.waitForFunction((before) => document.querySelectorAll(".message").length > before, before);
  const place = await page.get(".message .text", { hasText: oldest }).first().evaluate((text) => {
    const { top, bottom } = text.closest(".scroll").getBoundingClientRect();
    const own = text.getBoundingClientRect();
    return own.top >= top && own.bottom <= bottom;
  });
  assert.ok(place, "what was in view has moved away");

  // Whoever reads further up is told of new ones and not moved.
  await sam.send("dana", "One more thing.");
  const newer = page.page.getByRole("button", { name: /New messages/ });
  await newer.waitFor();
  assert.ok(!(await at_end()));
  await newer.click();
  await page.page.waitForFunction(() => !document.querySelector(".newer:not([hidden])"));
  assert.ok(await at_end());
  while (await earlier_messages(page));
  assert.equal(await first.textContent(), "first");
  await page.close();
}

async function text_from_elsewhere_is_shown_as_text_and_does_nothing({ dana, sam, pages }) {
  assert.ok(MARKUP.length >= 200, `${MARKUP.length} texts`);
  const texts = [...MARKUP, ...HIDING.map(([text]) => text)];
  const page = await (await pages.open(dana.ticket())).ready();
  await page.open("Sam");
  await sam.send("dana", ...texts, "that is all of them");
  await page.shows("that is all of them");
  const shown = await page.get(".message .text").allTextContents();
  const wanted = [...MARKUP.map((text) => text.replaceAll("\t", " ")), ...HIDING.map(([, text]) => text)];
  assert.deepEqual(shown.slice(-1 - wanted.length, -1), wanted);
  const made = () =>
    page.page.evaluate(() => ({
      inside: [...document.querySelectorAll(".text, .said, bdi")].reduce((sum, one) => sum + (one.matches(".said") ? 0 : one.children.length), 0),
      foreign: document.querySelectorAll("script:not([src='/assets/app.js']), img, iframe, object, embed, video, audio, style, base, form[action], template").length,
    }));
  assert.deepEqual(await made(), { inside: 0, foreign: 0 });
  // The same through the list of the API, in the order of a reload.
  await page.page.reload();
  await page.ready();
  await page.open("Sam");
  await page.shows("that is all of them");
  assert.deepEqual(await made(), { inside: 0, foreign: 0 });
  // And in what is said aloud.
  await sam.send("dana", "<img src=x onerror=ran(5)>\u202eabc");
  await page.get("[aria-live=polite]", { hasText: "<img src=x onerror=ran(5)>\ufffdabc" }).waitFor({ state: "attached" });
  await page.shot("markup");
  await page.close();
}

/** The controls of the one above: what it looks for is noticed when it happens. */
async function a_script_that_ran_or_was_stopped_would_be_noticed({ dana, pages }) {
  const page = await (await pages.open(dana.ticket())).ready();
  const refused = await page.page.evaluate(() => {
    try {
      document.body.innerHTML = "<img src=x onerror=ran(1)>";
      return false;
    } catch (error) {
      return error instanceof TypeError;
    }
  });
  assert.ok(refused, "a string became markup");
  const attribute = await page.page.evaluate(() => {
    const picture = document.createElement("img");
    picture.setAttribute("src", "data:image/png,x");
    document.body.append(picture);
    window.ran("by hand");
    try {
      picture.setAttribute("onerror", "ran(2)");
      return false;
    } catch (error) {
      return error instanceof TypeError;
    }
  });
  assert.ok(attribute, "a string became a script");
  await page.page.waitForFunction(() => window.__violations.length >= 2);
  await assert.rejects(page.close());
  await page.context.close();
}

async function one_function_cleans_all_text({ dana, pages }) {
  const page = await (await pages.open(dana.ticket())).ready();
  const results = await page.page.evaluate(async (texts) => {
    const { plain, plainLine } = await import("/assets/plain.js");
    return { cleaned: texts.map(plain), line: plainLine("a\nb\tc"), odd: [plain(null), plain(undefined), plain(7), plain("\ud800x")] };
  }, HIDING.map(([text]) => text));
  assert.deepEqual(results.cleaned, HIDING.map(([, text]) => text));
  assert.equal(results.line, "a b c");
  assert.deepEqual(results.odd, ["", "", "7", "\ufffdx"]);
  await page.close();
}

async function what_is_told_of_people_and_messages_is_in_words({ dana, pages }) {
  const page = await (await pages.open(dana.ticket())).ready();
  const said = await page.page.evaluate(async () => {
    const { ago, count, list, people, progress } = await import("/assets/words.js");
    const { whereabouts } = await import("/assets/rail.js");
    const now = Date.parse("2026-11-22T12:00:00.000Z");
    const before = (seconds) => ago(new Date(now - seconds * 1000).toISOString(), now);
    const away = { known: true, reachable: false, lastHeard: new Date(Date.now() - 250_000).toISOString(), heardBy: "Eli\u202e", held: 2 };
    const held = { state: "held", held_by: ["a", "b"] };
    return [
      [3, 42, 250, 7300, 200_000].map(before),
      [before(-60), ago("never"), count(1, "message"), count(0, "message"), people(1), people(3)],
      [list([]), list(["Dana"]), list(["Dana", "Sam"]), list(["Dana", "Sam", "Eli"]), list(["a", "b", "c", "d", "e"])],
      [progress({ ...held, held_by_names: ["Rosa", "Eli"] }), progress(held), progress({ state: "held", held_by: [] })],
      [whereabouts(away), whereabouts({ ...away, heardBy: null, held: 0 }), whereabouts({ ...away, lastHeard: null, held: 1 })],
    ];
  });
  assert.deepEqual(said, [
    ["just now", "42 s ago", "4 min ago", "2 h ago", "2 days ago"],
    ["just now", "some time ago", "1 message", "0 messages", "1 person", "3 people"],
    ["", "Dana", "Dana and Sam", "Dana, Sam and Eli", "a, b, c and 2 more"],
    ["held by Rosa and Eli", "held by 2 people", "held by others"],
    [
      "last heard 4 min ago by Eli\ufffd · 2 messages held for them",
      "last heard 4 min ago",
      "not heard yet · 1 message held for them",
    ],
  ]);
  await page.close();
}

async function what_was_said_while_the_daemon_was_not_heard_is_there_afterwards({ dana, sam, pages }) {
  // The first stream ends at once, and no other begins until it is said.
  let streams = 0;
  let through = false;
  const before = (context) =>
    context.route("**/api/v1/events", (route) => {
      streams += 1;
      if (through) return route.continue();
      return streams === 1 ? route.fulfill({ contentType: "text/event-stream", body: ": hello\n\n" }) : route.abort();
    });
  const page = await (await pages.open(dana.ticket(), { before })).ready();
  await page.open("Sam");
  await page.page.evaluate(() => Object.assign(window, { mark: "not loaded again" }));
  const lost = page.get(".lost", { hasText: "The daemon does not answer" });
  await lost.waitFor();
  await page.get("oob-rail button", { hasText: "Sam" }).locator(".where", { hasText: "not known now" }).waitFor();
  await sam.send("dana", ...Array.from({ length: 70 }, (_, number) => `meanwhile ${number}`));
  through = true;
  await page.shows("meanwhile 69");
  await lost.waitFor({ state: "detached" });
  // No hole: what did not come is read on going back.
  await earlier_messages(page);
  await page.shows("meanwhile 0");
  await page.page.waitForFunction(() => {
    const numbers = [...document.querySelectorAll(".message .text")].map((one) => /^meanwhile (\d+)$/.exec(one.textContent)?.[1]);
    return numbers.filter(Boolean).join() === [...Array(70).keys()].join();
  });
  // A daemon that hangs keeps its streams open; it is noticed all the same, and that it goes on as well.
  await page.context.route("**/api/v1/status", (route) => route.abort());
  await lost.waitFor({ timeout: 60_000 });
  await page.context.unroute("**/api/v1/status");
  await lost.waitFor({ state: "detached", timeout: 60_000 });
  assert.equal(await page.page.evaluate(() => window.mark), "not loaded again");
  // A browser complains of each connection that was refused; here they were.
  page.wrong.splice(0, page.wrong.length, ...page.wrong.filter((line) => !line.includes("net::ERR_FAILED")));
  await page.close();
}

async function an_alert_is_heard_until_it_is_acknowledged_by_keyboard({ dana, alerts, pages }) {
  const text = "Do not log in.\nCall <b>Rosa</b> \u202eback.";
  const page = await (await pages.open(dana.ticket(), { before: alerts.serve })).ready();
  const raised = await alerts.raise(text, "critical");
  await alerts.told(page);
  const banner = page.get(`[data-alert="${raised}"]`);
  await banner.waitFor();
  const said = await banner.getByRole("alert").first().innerText();
  assert.match(said, /Critical from Sam/);
  assert.match(said, /Do not log in\.\nCall <b>Rosa<\/b> \ufffdback\./);
  await banner.getByText(/^0 of 2 acknowledged · sound is off/).waitFor();
  assert.match(await page.page.title(), /^ALERT/);
  await page.shot("alert");
  // Sound needs a hand: from here on it repeats.
  await press_until(page, "Tab", "Turn sound on");
  await page.page.keyboard.press("Enter");
  await page.page.waitForFunction(() => window.__tones >= 8);
  assert.equal(await page.page.evaluate(() => window.__repeats.size), 1);
  await press_until(page, "Tab", "Acknowledge");
  await page.page.keyboard.press("Enter");
  await banner.getByText(/You acknowledged · 1 of 2 acknowledged/).waitFor();
  assert.equal(await page.page.evaluate(() => window.__repeats.size), 0);
  assert.ok((await alerts.acknowledged(raised)).includes(await dana.me()));
  await page.page.keyboard.press("Enter");
  await banner.waitFor({ state: "detached" });
  await page.page.getByRole("button", { name: "Alerts", exact: true }).click();
  await page.get(".book", { hasText: "1 of 2 acknowledged" }).first().waitFor();
  await page.page.keyboard.press("Escape");
  await page.get("dialog").waitFor({ state: "detached" });
  await page.close();
}

async function raising_an_alert_asks_how_many_it_goes_to({ dana, alerts, pages }) {
  const page = await (await pages.open(dana.ticket(), { before: alerts.serve })).ready();
  await page.page.getByRole("button", { name: "Raise an alert" }).press("Enter");
  await page.page.getByRole("button", { name: "Continue" }).click();
  await page.get("dialog .problem", { hasText: "Write what everybody must know." }).waitFor();
  await page.page.getByRole("textbox", { name: "What everybody must know" }).fill("Meet at the harbour gate.");
  await page.page.getByRole("radio", { name: /Information/ }).check();
  await page.shot("raise");
  await page.page.getByRole("button", { name: "Continue" }).press("Enter");
  await page.get("dialog", { hasText: "Information to everybody: 2 people" }).waitFor();
  await page.shot("raise-confirm");
  await page.page.getByRole("button", { name: "Send to 2 people" }).press("Enter");
  const banner = page.get("article.alert.info").filter({ hasText: "Meet at the harbour gate." });
  await banner.getByText("from you").waitFor();
  await banner.getByText(/0 of 2 acknowledged/).waitFor();
  assert.equal(await banner.getByRole("button", { name: "Acknowledge" }).count(), 0);
  await alerts.answer(await banner.getAttribute("data-alert"));
  await alerts.told(page);
  await banner.getByText(/1 of 2 acknowledged · (waiting for|out of reach:) Rosa/).waitFor();
  await page.shot("answered");
  await page.close();
}

async function everything_can_be_done_by_keyboard({ dana, sam, pages }) {
  const page = await (await pages.open(dana.ticket())).ready();
  await page.get("oob-rail button").first().waitFor();
  const { keyboard } = page.page;
  const focused = () => page.page.evaluate(() => (document.activeElement?.getAttribute("data-member") ? "person " : "") + (document.activeElement?.textContent ?? ""));
  await keyboard.press("Tab");
  assert.match(await focused(), /Skip to the conversation/);
  await press_until(page, "Tab", "person ");
  assert.match(await focused(), /person Rosa/);
  await keyboard.press("ArrowDown");
  assert.match(await focused(), /person Sam/);
  await keyboard.press("Home");
  await keyboard.press("End");
  assert.match(await focused(), /person Sam/);
  await keyboard.press("Enter");
  await page.get("#talk-title:focus", { hasText: "Sam" }).waitFor();
  for (let step = 0; step < 10 && !(await page.get("#composer-text:focus").count()); step += 1) await keyboard.press("Tab");
  await keyboard.type("by keyboard alone");
  await keyboard.press("Enter");
  await page.shows("by keyboard alone");
  const last = async () => (await sam.get("messages?target=dana&before=9007199254740991&limit=1")).messages[0]?.text;
  await until("it arrived", async () => (await last()) === "by keyboard alone");
  await keyboard.press("Escape");
  assert.match(await focused(), /person Sam/);
  await keyboard.press("Control+k");
  await page.get("dialog input:focus").waitFor();
  await keyboard.type("ros");
  await page.shot("jump");
  await keyboard.press("Enter");
  await page.get("#talk-title:focus", { hasText: "Rosa" }).waitFor();
  await keyboard.press("Control+k");
  await keyboard.type("nobody at all");
  await page.get("dialog .hint", { hasText: "Nobody of that name." }).waitFor();
  await keyboard.press("Escape");
  await page.get("dialog").waitFor({ state: "detached" });
  await page.close();
}

async function it_can_be_used_by_everybody_in_light_and_dark({ dana, alerts, pages }) {
  await alerts.raise("Stay off the hospital network.", "critical");
  await alerts.raise("Bring your own charger.", "warning");
  await alerts.raise("Coffee is at the gate.", "info");
  for (const dark of [false, true]) {
    const scheme = dark ? "dark" : "light";
    const open = (url, more) => pages.open(url, { dark, axe: true, ...more });
    const out = await open(dana.url, { expected: [401] });
    await out.get(".outside").waitFor();
    await out.accessible(`outside, ${scheme}`);
    await out.close();

    const calm = await (await open(dana.ticket(), { before: alerts.none })).ready();
    await calm.accessible(`empty, ${scheme}`);
    await calm.shot(`empty-${scheme}`);
    await calm.open("Sam");
    await calm.accessible(`conversation, ${scheme}`);
    await calm.shot(`conversation-${scheme}`);
    await calm.page.keyboard.press("Control+k");
    await calm.accessible(`find a person, ${scheme}`);
    await calm.close();

    const page = await (await open(dana.ticket(), { before: alerts.serve })).ready();
    await page.open("Sam");
    await page.get("article.alert.critical").first().waitFor();
    await page.accessible(`alert banner, ${scheme}`);
    await page.shot(`alert-${scheme}`);
    await page.page.getByRole("button", { name: "Alerts", exact: true }).click();
    await page.accessible(`list of alerts, ${scheme}`);
    await page.shot(`book-${scheme}`);
    await page.page.keyboard.press("Escape");
    await page.page.getByRole("button", { name: "Raise an alert" }).click();
    await page.accessible(`raise an alert, ${scheme}`);
    await page.page.getByRole("textbox", { name: "What everybody must know" }).fill("Everybody out.");
    await page.page.getByRole("radio", { name: /Critical/ }).check();
    await page.page.getByRole("button", { name: "Continue" }).click();
    await page.accessible(`send this alert, ${scheme}`);
    await page.shot(`confirm-${scheme}`);
    await page.close();
  }
  // The control: the checker finds what is wrong.
  const page = await (await pages.open(dana.ticket(), { axe: true })).ready();
  await page.page.evaluate(() => {
    const quiet = document.createElement("p");
    quiet.textContent = "hardly to be read";
    quiet.style.color = "#ddd";
    quiet.style.background = "#fff";
    document.querySelector("main").append(quiet, document.createElement("input"));
  });
  assert.match((await page.violations()).join("\n"), /color-contrast/);
  await page.close();
}

async function it_fits_a_narrow_window_and_twice_the_size({ dana, sam, alerts, pages }) {
  await sam.send("dana", "x".repeat(3000), `https://intranet.example/${"long/".repeat(60)}`);
  for (const [name, size] of [
    ["narrow", { width: 360, height: 740 }],
    ["double", { width: 640, height: 400, scale: 2 }],
  ]) {
    const page = await (await pages.open(dana.ticket(), { ...size, before: alerts.serve })).ready();
    const fits = async (state) => {
      const wide = await page.page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= size.width, `${name}, ${state}: ${wide} wide`);
      await page.shot(`${name}-${state}`);
    };
    const out = await pages.open(dana.url, { ...size, expected: [401] });
    await out.get("code", { hasText: "oob web" }).waitFor();
    await out.close();
    await page.get("oob-rail button").first().waitFor();
    await fits("people");
    await page.open("Sam");
    await page.shows("intranet.example");
    await page.page.getByRole("textbox", { name: "Message to Sam" }).scrollIntoViewIfNeeded();
    await fits("conversation");
    if (name === "narrow") {
      await page.page.getByRole("button", { name: "← People" }).click();
      await page.get("oob-rail button:focus", { hasText: "Sam" }).waitFor();
    }
    await page.page.getByRole("button", { name: "Raise an alert" }).click();
    await fits("dialog");
    await page.close();
  }
}

/** Last, since the daemon is stopped. */
async function a_lost_daemon_is_said_and_a_new_one_wants_a_new_way_in({ dana, pages }) {
  const page = await (await pages.open(dana.ticket(), { expected: ["401"] })).ready();
  await page.open("Sam");
  dana.down();
  await page.get(".lost", { hasText: "The daemon does not answer" }).waitFor();
  await page.get(".mesh", { hasText: "not known now" }).waitFor();
  await page.page.getByRole("textbox", { name: "Message to Sam" }).fill("into the dark");
  await page.page.keyboard.press("Enter");
  await page.get("oob-composer .problem", { hasText: "The daemon does not answer" }).waitFor();
  assert.equal(await page.page.getByRole("textbox", { name: "Message to Sam" }).inputValue(), "into the dark");
  await page.shot("lost");
  dana.up();
  await page.get(".outside code", { hasText: "oob web" }).waitFor();
  const again = await (await pages.open(dana.ticket())).ready();
  await again.get(".lost:empty").waitFor({ state: "attached" });
  await again.close();
  // A browser complains of each connection that was refused, so here the page is closed without asking it.
  await page.context.close();
}

/**
 * Asks for earlier messages by their button and waits for them; false where there are none. Without a mouse: its way to
 * the button scrolls, which asks as well, and the button may be gone before it is pressed.
 */
async function earlier_messages(page) {
  const button = page.page.getByRole("button", { name: "Earlier messages" });
  if (!(await button.isVisible())) return false;
  const now = await page.get(".message").count();
  await button.dispatchEvent("click");
  await page.page.waitForFunction(
    (now) => document.querySelectorAll(".message").length > now || document.querySelector(".earlier")?.hidden,
    now,
  );
  return true;
}

/** Presses a key until what has the focus begins with these words. */
async function press_until(page, key, words) {
  for (let step = 0; step < 30; step += 1) {
    const now = await page.page.evaluate(() => {
      const at = document.activeElement;
      return (at?.getAttribute("data-member") ? "person " : "") + (at?.textContent ?? "");
    });
    if (now.startsWith(words)) return;
    await page.page.keyboard.press(key);
  }
  assert.fail(`${words} cannot be reached with ${key}`);
}

/** Asks until it is so. The daemons answer in milliseconds, and each answer is waited for. */
async function until(what, so) {
  const end = Date.now() + 15_000;
  while (!(await so())) assert.ok(Date.now() < end, `not within 15 s: ${what}`);
}

/** In this order: the last one stops the daemon. */
export const CHECKS = [
  types_are_right,
  a_ticket_lets_one_browser_in_and_then_no_other,
  what_is_said_appears_by_itself_with_its_state,
  a_text_has_room_for_8192_bytes_and_drafts_stay,
  older_messages_come_on_asking_and_the_view_stays,
  text_from_elsewhere_is_shown_as_text_and_does_nothing,
  a_script_that_ran_or_was_stopped_would_be_noticed,
  one_function_cleans_all_text,
  what_is_told_of_people_and_messages_is_in_words,
  what_was_said_while_the_daemon_was_not_heard_is_there_afterwards,
  an_alert_is_heard_until_it_is_acknowledged_by_keyboard,
  raising_an_alert_asks_how_many_it_goes_to,
  everything_can_be_done_by_keyboard,
  it_can_be_used_by_everybody_in_light_and_dark,
  it_fits_a_narrow_window_and_twice_the_size,
  a_lost_daemon_is_said_and_a_new_one_wants_a_new_way_in,
];
