// What the page asks the edge: the archive's queries, the stream of what happens, and the application itself.

/** Where the operator's token is kept: in this tab, until it is closed. */
const TOKEN = "concert-token";

/** An answer that is none. `status` is 0 when nobody could be reached. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** What the edge says of itself: `{base, token}`. */
export async function settings() {
  return (await get("/_concert/settings")).json();
}

/** Keeps the operator's token. */
export function useToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** Whether a token was given. */
export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;

/**
 * The rows of a query of the archive.
 *
 * @param {string} query below `/_concert/api/`
 * @param {AbortSignal} [signal] ends it, with an AbortError
 * @throws {Refusal} in words
 */
export async function rows(query, signal) {
  const answer = await get(`/_concert/api/${query}`, signal);
  const body = await answer.json().catch(() => ({}));
  if (!Array.isArray(body.rows)) throw new Refusal(502, "the archive's answer cannot be read");
  return body.rows;
}

/**
 * What happens, as it happens: each `{flows, left_out}`.
 *
 * Not an EventSource, which sends no header for the token.
 */
export async function* notices(signal) {
  const answer = await get("/_concert/live", signal);
  yield { flows: [], left_out: 0 };
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart())
        .join("\n");
      if (data !== "") yield JSON.parse(data);
    }
  }
}

/** So many random bytes, as hexadecimal digits. */
const random = (bytes) => [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The id of a new trace. */
export const newTrace = () => random(16);

async function get(path, signal) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  let answer;
  try {
    answer = await fetch(path, { headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "the edge cannot be reached; is it still running?");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refusal(answer.status, body.error ?? `the edge answered ${answer.status}`);
}

/**
 * Posts to the application, as any client would, as part of a trace, by which the flow is known before the answer.
 *
 * @returns {Promise<{status: number, body: object, flow: string|null, by: string|null, took: number}>} `took` in milliseconds
 */
export async function post(address, body, trace) {
  const began = performance.now();
  let answer;
  try {
    answer = await fetch(address, {
      method: "POST",
      headers: { "content-type": "application/json", traceparent: `00-${trace}-${random(8)}-01` },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Refusal(0, "the edge cannot be reached; is it still running?");
  }
  return {
    status: answer.status,
    body: await answer.json().catch(() => ({})),
    flow: answer.headers.get("concert-flow"),
    by: answer.headers.get("concert-answered-by"),
    took: performance.now() - began,
  };
}
