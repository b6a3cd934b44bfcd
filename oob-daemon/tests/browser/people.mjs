// The people of a test: each with a running daemon, asked by its API or the command line.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export class Person {
  constructor({ oob, home, pass }) {
    this.oob = oob;
    this.home = home;
    this.pass = pass;
    this.find();
  }

  /** Reads where the daemon is. */
  find() {
    const { url, token } = JSON.parse(readFileSync(join(this.home, "api.json"), "utf8"));
    this.url = url;
    this.token = token;
  }

  run(...args) {
    const all = ["--home", this.home, "--json", ...args];
    return execFileSync(this.oob, all, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  }

  /** Returns the address of the page with a fresh ticket. */
  ticket() {
    return JSON.parse(this.run("web", "--no-open")).url;
  }

  /** Asks the API; the answer's status and JSON. */
  async ask(path, body, kind = "application/json") {
    const headers = { Authorization: `Bearer ${this.token}` };
    if (body !== undefined) headers["Content-Type"] = kind;
    const text = typeof body === "string" || body === undefined ? body : JSON.stringify(body);
    const method = body === undefined ? "GET" : "POST";
    const response = await fetch(`${this.url}/api/v1/${path}`, { method, headers, body: text });
    const answer = await response.text();
    return { status: response.status, json: kind === "application/json" ? JSON.parse(answer) : null };
  }

  async get(path) {
    const { status, json } = await this.ask(path);
    if (status !== 200) throw new Error(`${path}: ${status} ${JSON.stringify(json)}`);
    return json;
  }

  /** Sends texts to somebody, in order, in one request. */
  async send(target, ...texts) {
    const lines = texts.map((text) => JSON.stringify({ target, text })).join("\n");
    const { status } = await this.ask("messages", lines, "application/x-ndjson");
    if (status !== 200) throw new Error(`messages: ${status}`);
  }

  /** Waits until a text is the newest from somebody. */
  async has(from, text) {
    for (let left = 600; left > 0; left -= 1) {
      const { messages } = await this.get(`messages?target=person:${from}&before=${Number.MAX_SAFE_INTEGER}&limit=1`);
      if (messages.at(-1)?.text === text) return;
      await new Promise((done) => setTimeout(done, 100));
    }
    throw new Error(`${text} of ${from} did not come`);
  }

  async me() {
    return (await this.get("me")).member;
  }

  down() {
    this.run("down");
  }

  /** Starts the daemon again with its API at the same place. */
  up() {
    const at = this.url.replace("http://", "");
    this.run("--passphrase-file", this.pass, "up", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--api", at);
    this.find();
  }
}
