// Requests to the edge: queries to the archive, and the stream of live updates.

/** Key of the operator token in the session storage, which lasts as long as the tab. */
const TOKEN = "concert-token";

/** A failed request. `status` is 0 if the edge is unreachable. */
export class RequestError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Settings of the edge: `{token}`, which is true if one is required. */
export async function settings() {
  return (await get("/_concert/settings")).json();
}

/** Stores the operator token. */
export function useToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** True if a token is stored. */
export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;

/**
 * Rows of a query to the archive.
 *
 * @param {string} query path and parameters, relative to `/_concert/api/`
 * @param {AbortSignal} [signal] cancels the query; it throws AbortError
 * @throws {RequestError} with a message to display
 */
export async function rows(query, signal) {
  const response = await get(`/_concert/api/${query}`, signal);
  const body = await response.json().catch(() => ({}));
  if (!Array.isArray(body.rows)) throw new RequestError(502, "invalid response from the archive");
  return body.rows;
}

/**
 * Live updates, each `{flows, left_out}`. The first is empty and reports the connection.
 *
 * An EventSource cannot send the header for the token.
 */
export async function* notices(signal) {
  const response = await get("/_concert/live", signal);
  yield { flows: [], left_out: 0 };
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
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

async function get(path, signal) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  let response;
  try {
    response = await fetch(path, { headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError(0, "cannot reach the edge; check that it is running");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new RequestError(response.status, body.error ?? `the edge returned ${response.status}`);
}
