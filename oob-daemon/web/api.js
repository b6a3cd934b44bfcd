/**
 * Asks the daemon. The browser adds the session's cookie by itself, and sends it to other servers of this machine too; so every
 * request also says the session's key, which only pages of this very daemon can read.
 */

/** How long an answer may take; the daemon is on this machine. */
const ANSWER_MS = 20_000;

/** Where the key is kept: for this tab, through loading again, and for no page of another port. */
const KEY = "key";

/** Tabs of this page, where one that has no key is given that of another. Only pages of this host and port hear it. */
const tabs = new BroadcastChannel("oob");

/** How long another tab may take to say its key. */
const TABS_MS = 200;

tabs.addEventListener("message", ({ data }) => {
  const key = sessionStorage.getItem(KEY);
  if (data?.wanted && key !== null) tabs.postMessage({ key });
  // The newest session is that of all tabs, as the cookie is.
  if (typeof data?.key === "string") sessionStorage.setItem(KEY, data.key);
});

/**
 * Keeps the key of a new session, for the other tabs too.
 *
 * @param {string} key
 */
export function remember(key) {
  sessionStorage.setItem(KEY, key);
  tabs.postMessage({ key });
}

/** Forgets the key of a session that has ended. */
export function forget() {
  sessionStorage.removeItem(KEY);
}

/** Asks the other tabs for the key, if this one has none. */
export async function inherit() {
  if (sessionStorage.getItem(KEY) !== null) return;
  await new Promise((done) => {
    tabs.addEventListener("message", ({ data }) => {
      if (typeof data?.key === "string") done(null);
    });
    setTimeout(done, TABS_MS);
    tabs.postMessage({ wanted: true });
  });
}

/**
 * Asks for something that goes on: the answer is returned when it begins.
 *
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {Promise<Response>}
 */
export function open(path, signal) {
  return fetch(`/api/v1/${path}`, { headers: ours(), signal, redirect: "error" });
}

/** @returns {Record<string, string>} */
function ours() {
  const key = sessionStorage.getItem(KEY);
  return key === null ? {} : { "Oob-Page-Key": key };
}

/** A request that was refused, or got no answer. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {string} code
   * @param {string | null} hint
   * @param {number} status
   */
  constructor(message, code, hint, status) {
    super(message);
    this.code = code;
    this.hint = hint;
    this.status = status;
  }
}

/**
 * @template T
 * @param {string} path
 * @returns {Promise<T>}
 */
export function get(path) {
  return ask(path, { method: "GET" });
}

/**
 * @template T
 * @param {string} path
 * @param {object} body
 * @returns {Promise<T>}
 */
export function post(path, body) {
  return ask(path, {
    method: "POST",
    kind: "application/json",
    body: JSON.stringify(body),
  });
}

/**
 * @template T
 * @param {string} path
 * @param {{method: string, kind?: string, body?: string}} request
 * @returns {Promise<T>}
 */
async function ask(path, { method, kind, body }) {
  const headers = kind ? { ...ours(), "Content-Type": kind } : ours();
  const bounds = { signal: AbortSignal.timeout(ANSWER_MS), redirect: /** @type {const} */ ("error") };
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, { method, headers, body, ...bounds });
  } catch {
    throw new ApiError("the daemon does not answer", "not_running", "see whether it runs: oob status", 0);
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw new ApiError(
    answer?.title ?? `the daemon answered ${response.status}`,
    answer?.code ?? "internal",
    answer?.hint ?? null,
    response.status,
  );
}

/**
 * Returns what went wrong in words: the fact, then what to do.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function wrong(error) {
  if (!(error instanceof ApiError)) return "Something in this page went wrong; load it again.";
  const fact = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  return error.hint ? `${fact}. Next: ${error.hint}` : `${fact}.`;
}
