// Your account: sign up, log in, log out, as any client of the application does, with the exchange beside it.

import { newTrace, post } from "./api.js";
import { element, fill } from "./element.js";
import { shortened } from "./words.js";

/** Keys whose values are not shown, and how much of a session is. */
const HIDDEN = /password/i;
const SESSION_SHOWN = 6;

/** The box, whose requests call `sent(trace)` when they go (`sent(null)` when nothing came of one), and `answered(flow)` with the flow that they set off. */
export class Account {
  #root;
  #base;
  #sent;
  #answered;
  #session = null;
  #name = null;
  #exchange = element("div.exchange", { "aria-live": "polite" });
  #form = element("div");

  constructor(root, base, sent, answered) {
    this.#root = root;
    this.#base = base;
    this.#sent = sent;
    this.#answered = answered;
    fill(
      root,
      element("h2", {}, "Your account"),
      element("p.quiet", {}, "Real requests to the application. What they set off is drawn beside."),
      this.#form,
      this.#exchange,
      this.#another(),
    );
    this.#draw();
  }

  #draw() {
    fill(this.#form, this.#session === null ? this.#strangers() : this.#members());
  }

  #strangers() {
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

  #members() {
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
    // A session that is not there any more is over as well.
    if (answer?.status === 200 || answer?.status === 404) {
      this.#session = null;
      this.#draw();
      this.#form.querySelector("#username")?.focus();
    }
  }

  /** Sends, shows the exchange, and tells of the flow. */
  async #send(path, body) {
    const request = [
      element("h3", {}, "Request"),
      element("pre.value", { tabindex: "0" }, `POST ${this.#base}${path}\n${told(body)}`),
    ];
    fill(this.#exchange, request, element("p.quiet", {}, "waiting for the answer…"));
    for (const button of this.#root.querySelectorAll("button")) button.disabled = true;
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
      for (const button of this.#root.querySelectorAll("button")) button.disabled = false;
    }
  }

  /** Any other path, for whoever writes rules. */
  #another() {
    const path = element("input", { id: "other-path", value: "/auth/whoami", spellcheck: "false" });
    const body = element("textarea", { id: "other-body", rows: "3", spellcheck: "false" }, '{"session": "…"}');
    const wrong = element("p.notice.bad", { role: "alert", hidden: true });
    const submit = (event) => {
      event.preventDefault();
      try {
        const parsed = JSON.parse(body.value);
        wrong.hidden = true;
        this.#send(path.value, parsed);
      } catch (error) {
        wrong.textContent = `The body is no JSON: ${error.message}`;
        wrong.hidden = false;
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
        wrong,
        element("div.buttons", {}, element("button", { type: "submit" }, "Send")),
      ),
    );
  }
}

function response(answer) {
  const kind = answer.status < 400 ? "good" : answer.status < 500 ? "refused" : "bad";
  return [
    element("h3", {}, "Response"),
    element(
      "p.status",
      {},
      element(`span.code.${kind}`, {}, answer.status),
      ` after ${Math.round(answer.took)} ms`,
      answer.by === "edge" && element("span.quiet", {}, ", by the edge itself: it never got to the rules"),
    ),
    element("pre.value", { tabindex: "0" }, told(answer.body)),
    answer.flow !== null && element("p.quiet", {}, element("a", { href: `#/flow/${answer.flow}` }, "See its flow")),
  ];
}

/** A body as JSON, without its secrets. */
const told = (body) =>
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
