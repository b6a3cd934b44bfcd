/**
 * What is said of times, states and numbers.
 */

import { plainLine } from "./plain.js";

/** @typedef {import("./types.js").LogEntry} LogEntry */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * Returns "1 message" or "2 messages".
 *
 * @param {number} number
 * @param {string} noun
 * @returns {string}
 */
export function count(number, noun) {
  return number === 1 ? `1 ${noun}` : `${number} ${noun}s`;
}

/**
 * Returns "1 person" or "2 people".
 *
 * @param {number} number
 * @returns {string}
 */
export function people(number) {
  return number === 1 ? "1 person" : `${number} people`;
}

/**
 * Returns names as people say them, the first few of many.
 *
 * @param {string[]} names
 * @returns {string}
 */
export function list(names) {
  const clean = names.map(plainLine);
  if (clean.length > 4) return `${clean.slice(0, 3).join(", ")} and ${clean.length - 3} more`;
  if (clean.length < 2) return clean.join("");
  return `${clean.slice(0, -1).join(", ")} and ${clean.at(-1)}`;
}

/**
 * Returns how long ago a moment was.
 *
 * @param {string} time
 * @param {number} [now]
 * @returns {string}
 */
export function ago(time, now = Date.now()) {
  const seconds = Math.max(0, Math.floor((now - Date.parse(time)) / 1000));
  if (Number.isNaN(seconds)) return "some time ago";
  if (seconds < 10) return "just now";
  if (seconds < MINUTE) return `${seconds} s ago`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ago`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h ago`;
  return `${count(Math.floor(seconds / DAY), "day")} ago`;
}

/**
 * Returns a time of day, as 14:05.
 *
 * @param {string} time
 * @returns {string}
 */
export function clock(time) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return "--:--";
  return `${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

/**
 * Returns a day where the user is: Today, Yesterday, or Saturday 2026-11-21.
 *
 * @param {string} time
 * @param {Date} [now]
 * @returns {string}
 */
export function day(time, now = new Date()) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return "Unknown day";
  const yesterday = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
  if (date.toDateString() === now.toDateString()) return "Today";
  if (date.toDateString() === yesterday.toDateString()) return "Yesterday";
  const name = date.toLocaleDateString("en", { weekday: "long" });
  return `${name} ${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

/**
 * Returns when something was, with the day unless it was today.
 *
 * @param {string} time
 * @returns {string}
 */
export function moment(time) {
  const on = day(time);
  return on === "Today" ? clock(time) : `${on} ${clock(time)}`;
}

/**
 * Returns how far an own message has come.
 *
 * @param {LogEntry} entry
 * @returns {string}
 */
export function progress(entry) {
  switch (entry.state) {
    case "stored":
      return "stored here, on its way";
    case "held": {
      const names = entry.held_by_names ?? [];
      if (names.length > 0) return `held by ${list(names)}`;
      return entry.held_by.length > 0 ? `held by ${people(entry.held_by.length)}` : "held by others";
    }
    case "delivered":
      return "delivered";
    case "read":
      return "read";
    case "expired":
      return "expired, not delivered";
    case "removed":
      return "not delivered: the device was removed before it arrived";
    default:
      return plainLine(entry.state);
  }
}

/**
 * Returns how many bytes a text is on its way.
 *
 * @param {string} text
 * @returns {number}
 */
export function bytes(text) {
  return new TextEncoder().encode(text).length;
}

/**
 * @param {number} number
 * @returns {string}
 */
function pad(number) {
  return String(number).padStart(2, "0");
}
