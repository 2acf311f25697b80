// @ts-check
// Requests to the application. Each is a POST with JSON; the response names its flow in a header.

/** @typedef {{ user: string, username: string, session?: string }} Login */
/** @typedef {{ flow: string, path: string }} Done */
/** @typedef {{ getItem(key: string): string | null, setItem(key: string, value: string): void, removeItem(key: string): void }} Store */

const STORED = "reader.login";
const DEAD_SESSION = "Session not found";

/** A request failed. The message is for readers of the page. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status 0 without a response */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * Text for a failed response.
 * @param {number} status
 * @param {any} body
 * @param {string | null} retryAfter seconds
 */
export function explain(status, body, retryAfter = null) {
  const given = Array.isArray(body) ? body[0]?.error : body?.error;
  if (status === 413) return "The file is larger than the server accepts.";
  if (status === 429) {
    const wait = retryAfter ? `${retryAfter} seconds` : "a while";
    return `There were too many attempts. Wait ${wait}, then try again.`;
  }
  if (status === 404 && typeof given !== "string") return "The server does not offer this.";
  if (status >= 500) return "The server could not do this now. Try again in a moment.";
  if (typeof given === "string") {
    const taken = /^Error creating document: Document with name '(.*)' already exists/s.exec(given);
    if (taken) return `Your library has a book named “${taken[1]}” already. Choose another name.`;
    return given;
  }
  return `The server rejected the request (status ${status}).`;
}

/** True for a failure, also where the server answers refusals with 200. @param {number} status @param {any} body */
function isRefusal(status, body) {
  const first = Array.isArray(body) ? body[0] : body;
  return status >= 400 || (typeof first?.error === "string" && first !== null);
}

/** Connection to the application: knows who is logged in, and the last flow. */
export class Client extends EventTarget {
  /** @type {Login | null} */
  #login = null;
  /** @type {Done | null} */
  last = null;

  /** @param {{ base?: string, fetch?: typeof fetch, store?: Store }} [options] */
  constructor({ base = "/api", fetch: send, store } = {}) {
    super();
    this.base = base;
    this.send = send ?? ((url, init) => fetch(url, init));
    this.store = store ?? localStorage;
    try {
      this.#login = JSON.parse(this.store.getItem(STORED) ?? "null");
    } catch {
      this.store.removeItem(STORED);
    }
  }

  get login() {
    return this.#login;
  }

  /** @param {Login | null} login */
  set login(login) {
    this.#login = login;
    if (login) this.store.setItem(STORED, JSON.stringify(login));
    else this.store.removeItem(STORED);
  }

  /** Id of the user who is logged in. */
  get user() {
    return this.#login?.user ?? "";
  }

  /**
   * Sends a request and returns the body of its response.
   * @param {string} path such as `Library/openDocument`
   * @param {Record<string, unknown>} [body] without the session
   * @param {{ keepalive?: boolean }} [options]
   * @returns {Promise<any>}
   * @throws {ApiError}
   */
  async call(path, body = {}, { keepalive = false } = {}) {
    const used = this.#login?.session;
    const init = { method: "POST", headers: HEADERS, body: this.#body(body), keepalive };
    let response;
    try {
      response = await this.send(`${this.base}/${path}`, init);
    } catch {
      throw new ApiError("The server cannot be reached. Check the connection and try again.", 0);
    }
    const text = await response.text();
    return this.#finish(path, response.status, text, (name) => response.headers.get(name), used);
  }

  /**
   * As {@link call}, and reports the part of the body that was sent, from 0 to 1.
   * @param {string} path
   * @param {Record<string, unknown>} body
   * @param {(part: number) => void} onProgress
   * @returns {Promise<any>}
   */
  upload(path, body, onProgress) {
    const used = this.#login?.session;
    return new Promise((done, failed) => {
      const request = new XMLHttpRequest();
      request.open("POST", `${this.base}/${path}`);
      for (const [name, value] of Object.entries(HEADERS)) request.setRequestHeader(name, value);
      request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
      request.onerror = () =>
        failed(new ApiError("The upload was interrupted. Check the connection and try again.", 0));
      request.onload = () => {
        const header = (/** @type {string} */ name) => request.getResponseHeader(name);
        try {
          done(this.#finish(path, request.status, request.responseText, header, used));
        } catch (error) {
          failed(error);
        }
      };
      request.send(this.#body(body));
    });
  }

  /** @param {Record<string, unknown>} body */
  #body(body) {
    const session = this.#login?.session;
    return JSON.stringify(session === undefined ? body : { session, ...body });
  }

  /**
   * @param {string} path @param {number} status @param {string} text
   * @param {(name: string) => string | null} header
   * @param {string | undefined} used session of the request
   */
  #finish(path, status, text, header, used) {
    const flow = header("concert-flow");
    if (flow) {
      this.last = { flow, path };
      this.dispatchEvent(new Event("flow"));
    }
    let body = null;
    try {
      body = text === "" ? {} : JSON.parse(text);
    } catch {
      if (status < 400) throw new ApiError("The response of the server is not JSON.", status);
    }
    if (!isRefusal(status, body)) return body;
    const message = explain(status, body, header("retry-after"));
    const isDead = message === DEAD_SESSION;
    if (isDead && this.#login && this.#login.session === used) {
      this.login = null;
      this.dispatchEvent(new Event("ended"));
    }
    throw new ApiError(isDead ? "Your session has ended. Log in again." : message, status);
  }
}

/** With a session cookie configured, the edge keeps the session out of the page. */
const HEADERS = { "content-type": "application/json", "concert-session": "cookie" };

/** The connection of this page. @type {Client} */
export let api;

/** @param {Client} client */
export function useClient(client) {
  api = client;
}
