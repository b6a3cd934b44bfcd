/**
 * Reads the daemon's event stream. The browser's own reader of such streams cannot send the key of the session, so this one
 * takes the lines apart itself. It ends where the stream does; whoever listens begins a new one.
 */

import { open } from "./api.js";

/** Longest event read: a message has at most 8 KiB, escaped. */
const LONGEST = 1_000_000;

/** One stream: tells `open` once, `message` with the data of each event, and `error` when it has ended, however it did. */
export class Stream extends EventTarget {
  constructor() {
    super();
    this.ending = new AbortController();
    this.isOpen = false;
    this.read().catch(() => this.ended());
  }

  close() {
    this.ending.abort();
  }

  ended() {
    this.isOpen = false;
    if (!this.ending.signal.aborted) this.dispatchEvent(new Event("error"));
  }

  async read() {
    const response = await open("events", this.ending.signal);
    if (!response.ok || !response.body) return this.ended();
    this.isOpen = true;
    this.dispatchEvent(new Event("open"));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return this.ended();
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > LONGEST) throw new Error("an event without an end");
      for (const line of lines) {
        // Each of our events has one line of data; ids and comments are not needed here.
        if (!line.startsWith("data:")) continue;
        this.dispatchEvent(new MessageEvent("message", { data: line.slice("data:".length).trim() }));
      }
    }
  }
}
