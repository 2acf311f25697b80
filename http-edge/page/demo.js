// The demo panel: an account form that sends real requests to the application and shows each
// request and response.

import { newTrace, post } from "./api.js";
import { element, fill } from "./element.js";
import { shortened } from "./words.js";

/** Keys whose values are hidden. */
const HIDDEN = /password/i;
/** Number of characters shown of a session. */
const SESSION_SHOWN = 6;
/** Key in the local storage that remembers that the panel was closed. */
const CLOSED = "concert-demo-closed";

/**
 * The panel. Each request calls `sent(trace)`; then `answered(flow)` with the flow that it started,
 * or `sent(null)` if it failed.
 */
export class DemoPanel {
  #root;
  #opener;
  #base;
  #sent;
  #answered;
  #session = null;
  #name = null;
  #exchange = element("div.exchange", { "aria-live": "polite" });
  #form = element("div");

  /**
   * @param {Element} root
   * @param {HTMLButtonElement} opener opens the closed panel
   * @param {string} base prefix of all paths
   */
  constructor(root, opener, base, sent, answered) {
    this.#root = root;
    this.#opener = opener;
    this.#base = base;
    this.#sent = sent;
    this.#answered = answered;
    fill(
      root,
      element(
        "div.demo-head",
        {},
        element("h2", {}, "Demo account"),
        element("button.close", { type: "button", "aria-label": "Close the demo panel", on: { click: () => this.#setClosed(true) } }, "×"),
      ),
      element("p.quiet", {}, "Sends real requests to the application. The main panel shows the resulting flow."),
      this.#form,
      this.#exchange,
      this.#another(),
    );
    this.#draw();
    opener.addEventListener("click", () => this.#setClosed(false));
    this.#show(localStorage.getItem(CLOSED) === null);
  }

  #setClosed(closed) {
    if (closed) localStorage.setItem(CLOSED, "yes");
    else localStorage.removeItem(CLOSED);
    this.#show(!closed);
    (closed ? this.#opener : this.#form.querySelector("input, button")).focus();
  }

  #show(open) {
    this.#root.hidden = !open;
    this.#opener.hidden = open;
  }

  #draw() {
    fill(this.#form, this.#session === null ? this.#signedOut() : this.#signedIn());
  }

  #signedOut() {
    const name = element("input", { id: "username", name: "username", autocomplete: "username", required: true, spellcheck: "false", autocapitalize: "none" });
    const password = element("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true });
    name.value = this.#name ?? "";
    const send = (path) => () => this.#login(path, name.value, password.value);
    return element(
      "form",
      {
        on: {
          submit: (event) => {
            event.preventDefault();
            send("/auth/login")();
          },
        },
      },
      element("label", { for: "username" }, "Name"),
      name,
      element("label", { for: "password" }, "Password"),
      password,
      element(
        "div.buttons",
        {},
        element("button.main", { type: "submit", id: "log-in" }, "Log in"),
        element(
          "button",
          {
            type: "button",
            id: "sign-up",
            on: { click: (event) => event.currentTarget.form.reportValidity() && send("/auth/createAccount")() },
          },
          "Sign up",
        ),
      ),
    );
  }

  #signedIn() {
    return element(
      "div.member",
      {},
      element("p", {}, "Logged in as ", element("b", {}, this.#name), "."),
      element(
        "div.buttons",
        {},
        element("button.main", { type: "button", id: "log-out", on: { click: () => this.#logout() } }, "Log out"),
        element("button", { type: "button", on: { click: () => this.#send("/auth/whoami", { session: this.#session }) } }, "Who am I?"),
      ),
    );
  }

  async #login(path, username, password) {
    this.#name = username;
    const answer = await this.#send(path, { username, password });
    if (answer?.status === 200 && typeof answer.body.session === "string") {
      this.#session = answer.body.session;
      this.#draw();
      this.#form.querySelector("#log-out")?.focus();
    }
  }

  async #logout() {
    const answer = await this.#send("/auth/logout", { session: this.#session });
    // 404: the session has expired or was deleted.
    if (answer?.status === 200 || answer?.status === 404) {
      this.#session = null;
      this.#draw();
      this.#form.querySelector("#username")?.focus();
    }
  }

  /** Sends a request, and shows it with its response. */
  async #send(path, body) {
    const request = [
      element("h3", {}, "Request"),
      element("pre.value", { tabindex: "0" }, `POST ${this.#base}${path}\n${display(body)}`),
    ];
    fill(this.#exchange, request, element("p.quiet", {}, "Waiting for the response…"));
    for (const button of this.#root.querySelectorAll(".buttons button")) button.disabled = true;
    const trace = newTrace();
    this.#sent(trace);
    try {
      const answer = await post(`${this.#base}${path}`, body, trace);
      fill(this.#exchange, request, response(answer));
      if (answer.flow !== null) this.#answered(answer.flow);
      return answer;
    } catch (error) {
      this.#sent(null);
      fill(this.#exchange, request, element("p.notice.bad", { role: "alert" }, error.message));
      return null;
    } finally {
      for (const button of this.#root.querySelectorAll(".buttons button")) button.disabled = false;
    }
  }

  /** A form for any other path, for testing new rules. */
  #another() {
    const path = element("input", { id: "other-path", value: "/auth/whoami", spellcheck: "false" });
    const body = element("textarea", { id: "other-body", rows: "3", spellcheck: "false" }, '{"session": "…"}');
    const invalid = element("p.notice.bad", { role: "alert", hidden: true });
    const submit = (event) => {
      event.preventDefault();
      try {
        const parsed = JSON.parse(body.value);
        invalid.hidden = true;
        this.#send(path.value, parsed);
      } catch (error) {
        invalid.textContent = `Invalid JSON: ${error.message}`;
        invalid.hidden = false;
      }
    };
    return element(
      "details.another",
      {},
      element("summary", {}, "Another request"),
      element(
        "form",
        { on: { submit } },
        element("label", { for: "other-path" }, "Path"),
        path,
        element("label", { for: "other-body" }, "Body, as JSON"),
        body,
        invalid,
        element("div.buttons", {}, element("button", { type: "submit" }, "Send")),
      ),
    );
  }
}

function response(answer) {
  const kind = answer.status < 400 ? "good" : answer.status < 500 ? "rejected" : "bad";
  return [
    element("h3", {}, "Response"),
    element(
      "p.status",
      {},
      element(`span.code.${kind}`, {}, answer.status),
      ` after ${Math.round(answer.took)} ms`,
      answer.by === "edge" && element("span.quiet", {}, ", from the edge: the request did not reach the rules"),
    ),
    element("pre.value", { tabindex: "0" }, display(answer.body)),
    answer.flow !== null && element("p.quiet", {}, element("a", { href: `#/flow/${answer.flow}` }, "View flow")),
  ];
}

/** A body as JSON, without its secrets. */
const display = (body) =>
  JSON.stringify(
    body,
    (key, value) => {
      if (typeof value !== "string") return value;
      if (HIDDEN.test(key)) return "••••••••";
      if (key === "session") return shortened(value, SESSION_SHOWN);
      return value;
    },
    2,
  );
