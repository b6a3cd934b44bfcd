// Runs every check, or those whose names contain an argument. Started by oob-daemon/tests/it/browser.rs, which makes the
// people; exits with 0 if all passed, 1 if one failed, 77 if something is missing here.

import { CHECKS } from "./checks.mjs";
import { alerts } from "./alerts.mjs";
import { Pages } from "./page.mjs";
import { Person } from "./people.mjs";
import { FLAGS, browserPath, tools } from "./tools.mjs";

/** How long one check may take. */
const CHECK_MS = 240_000;

const given = JSON.parse(process.env.OOB_BROWSER_TEST ?? "null");
if (!given) {
  console.error("run it by: OOB_HEAVY=1 cargo test -p oob-daemon --test it browser");
  process.exit(1);
}
const executablePath = browserPath();
const { chromium, axe, tsc } = await tools();
const [dana, sam] = [new Person(given.dana), new Person(given.sam)];
const world = { dana, sam, tsc, web: given.web, third: given.third };
world.alerts = await alerts(world);
if (!world.alerts.real) console.log("note: this daemon has no alerts; the test plays them");
const browser = await chromium.launch({ executablePath, args: FLAGS });
// What the page asks for in vain.
const expected = world.alerts.real ? [] : [404];
world.pages = new Pages(browser, axe, given.shots, expected);

const failed = [];
for (const check of CHECKS) {
  const { name } = check;
  if (process.argv.length > 2 && !process.argv.slice(2).some((wanted) => name.includes(wanted))) continue;
  const began = Date.now();
  try {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done within ${CHECK_MS / 1000} s`)), CHECK_MS);
    });
    await Promise.race([check(world), late]).finally(() => clearTimeout(timer));
    console.log(`ok ${name} (${Date.now() - began} ms)`);
  } catch (error) {
    failed.push(`${name}: ${String(error.message).split("\n", 1)[0]}`);
    console.log(`FAILED ${name}\n${error.stack}\n`);
    for (const context of browser.contexts()) {
      await context.pages()[0]?.screenshot({ path: `${given.shots}/failed-${name}.png` }).catch(() => null);
      await context.close();
    }
  }
}
await browser.close();
if (failed.length > 0) console.log(`${failed.length} failed:\n${failed.join("\n")}`);
process.exit(failed.length === 0 ? 0 : 1);
