/**
 * Cleans text that came from elsewhere before it is shown; the same rules as the daemon's for terminals.
 */

/** Control, bidi and invisible characters: what could make a text look like something that it is not. */
const DECEIVES =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]|\p{Surrogate}/gu;

/**
 * Returns the text with every deceiving character shown as U+FFFD, so that nobody takes the rest for all of it. Line ends
 * stay, a tab becomes a space.
 *
 * @param {unknown} text
 * @returns {string}
 */
export function plain(text) {
  return String(text ?? "").replaceAll("\t", " ").replace(DECEIVES, "\ufffd");
}

/**
 * Returns the text on one line.
 *
 * @param {unknown} text
 * @returns {string}
 */
export function plainLine(text) {
  return plain(text).replaceAll("\n", " ");
}
