// The console: routes to views, receives live updates, and asks for the operator token.

import { hasToken, notices, settings, useToken } from "./api.js";
import { element, fill } from "./element.js";
import { FlowView } from "./flow.js";
import { FlowsView } from "./flows.js";
import { ProblemsView } from "./problems.js";
import { RulesView } from "./rules.js";

/** Delay before the stream of notices is reopened, in milliseconds. */
const RETRY_DELAY_MS = 2000;

const main = document.querySelector("#view");
const live = document.querySelector(".live");
const view = (title, make) => {
  const root = element("section");
  return { root, title, view: make(root) };
};

const views = {
  flow: view("Flow", (root) => new FlowView(root)),
  flows: view("Recent flows", (root) => new FlowsView(root)),
  rules: view("Rules", (root) => new RulesView(root)),
  problems: view("Problems", (root) => new ProblemsView(root, setProblemCount)),
};
/** Former names of views, so that old links keep working. */
const ALIASES = { wrong: "problems" };
let shown = null;

/** Routes `#/flow/<id>`, `#/flows`, `#/rules/<name>`, `#/problems`; others show the first view. */
function route() {
  const [, given = "", rest] = location.hash.split("/");
  const name = Object.hasOwn(ALIASES, given) ? ALIASES[given] : given;
  const known = Object.hasOwn(views, name) ? name : "flow";
  const argument = rest === undefined || rest === "" ? null : decodeURIComponent(rest);
  if (shown !== known) {
    if (shown !== null) views[shown].view.hide();
    fill(main, views[known].root);
    shown = known;
  }
  document.title = `${views[known].title} – Concert`;
  document.body.dataset.view = known;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === known) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  views[known].view.show(argument);
}

function setProblemCount(count) {
  const badge = document.querySelector("nav .count");
  badge.hidden = count === 0;
  badge.textContent = String(count);
}

function setConnection(state, text) {
  live.dataset.state = state;
  live.querySelector(".live-text").textContent = text;
}

/** Passes live updates to the shown view; reconnects until the page is closed. */
async function listen() {
  for (;;) {
    try {
      for await (const notice of notices()) {
        setConnection("on", "live");
        if (shown !== null) views[shown].view.update?.(notice.flows);
      }
      setConnection("off", "reconnecting");
    } catch (error) {
      if (error.status === 401) return showSignIn(error.message);
      setConnection("off", "disconnected");
      live.title = error.message;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY_MS));
  }
}

/** Flows hold data of all users, so the page shows them to operators only. */
function showSignIn(why) {
  setConnection("off", "locked");
  document.title = "Sign in – Concert";
  const input = element("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    required: true,
    minlength: "32",
    spellcheck: "false",
  });
  const form = element(
    "form.locked",
    {
      on: {
        submit: (event) => {
          event.preventDefault();
          useToken(input.value.trim());
          start();
        },
      },
    },
    element("h2", {}, "Operator token"),
    element(
      "p",
      {},
      "The console shows the requests of all users. The token is in the file that the setting ",
      element("code", {}, "console.token_file"),
      " of this edge names.",
    ),
    hasToken() && element("p.notice.bad", { role: "alert" }, why),
    element("label", { for: "token" }, "Token"),
    input,
    element("div.buttons", {}, element("button.main", { type: "submit" }, "Sign in")),
  );
  if (shown !== null) views[shown].view.hide();
  shown = null;
  removeEventListener("hashchange", route);
  fill(main, form);
}

function start() {
  addEventListener("hashchange", route);
  route();
  views.problems.view.watch();
  listen();
}

async function begin() {
  try {
    const { token } = await settings();
    if (token && !hasToken()) showSignIn("");
    else start();
  } catch (error) {
    setConnection("off", "disconnected");
    fill(main, element("div.notice.bad", { role: "alert" }, error.message));
    setTimeout(begin, RETRY_DELAY_MS);
  }
}

begin();
