/**
 * Asks the daemon. The browser adds the session's cookie by itself.
 */

/** How long an answer may take; the daemon is on this machine. */
const ANSWER_MS = 20_000;

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
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

/**
 * @template T
 * @param {string} path
 * @param {RequestInit} request
 * @returns {Promise<T>}
 */
async function ask(path, request) {
  const bounds = { signal: AbortSignal.timeout(ANSWER_MS), redirect: /** @type {const} */ ("error") };
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, { ...request, ...bounds });
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
