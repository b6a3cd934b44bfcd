// What the browser tests run with: a browser of this machine, and packages kept outside the repository.

import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

/** Exact versions, and no lock file: a lock file would name the registry that this machine happened to use. */
const PACKAGES = { "playwright-core": "1.65.1", "axe-core": "4.14.1", typescript: "5.9.3" };

const FOLDER = process.env.OOB_BROWSER_TOOLS ?? join(homedir(), ".cache", "oob-browser");

/** Exit code of a run that could not begin. */
const SKIPPED = 77;

/** Ends the run because something is missing here. */
function skip(reason) {
  console.error(`SKIPPED: ${reason}`);
  process.exit(SKIPPED);
}

function version(name) {
  try {
    return JSON.parse(readFileSync(join(FOLDER, "node_modules", name, "package.json"), "utf8")).version;
  } catch {
    return null;
  }
}

/** Returns the packages, fetched if they are not there yet. */
export async function tools() {
  const missing = Object.entries(PACKAGES).filter(([name, wanted]) => version(name) !== wanted);
  if (missing.length > 0) {
    mkdirSync(FOLDER, { recursive: true });
    const manifest = join(FOLDER, "package.json");
    if (!existsSync(manifest)) writeFileSync(manifest, '{"private":true}\n');
    const wanted = Object.entries(PACKAGES).map(([name, one]) => `${name}@${one}`);
    const options = ["install", "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"];
    try {
      execFileSync("npm", [...options, ...wanted], { cwd: FOLDER, stdio: "pipe", timeout: 120_000 });
    } catch {
      skip(`the test tools (${wanted.join(", ")}) are not in ${FOLDER} and npm could not fetch them`);
    }
  }
  const require = createRequire(join(FOLDER, "package.json"));
  return {
    chromium: require("playwright-core").chromium,
    axe: readFileSync(require.resolve("axe-core/axe.min.js"), "utf8"),
    tsc: require.resolve("typescript/bin/tsc"),
  };
}

/** Returns where the browser is. */
export function browserPath() {
  const found = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  return found ?? skip("no chromium here; on Debian: apt-get install chromium");
}

/** How the browser is started: without a word to anybody. */
export const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];
