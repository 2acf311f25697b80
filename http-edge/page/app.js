// The page as a whole: which view is shown, what is heard, and the token that it may take.

import { Account } from "./account.js";
import { hasToken, notices, settings, useToken } from "./api.js";
import { element, fill } from "./element.js";
import { FlowView } from "./flow.js";
import { FlowsView } from "./flows.js";
import { RulesView } from "./rules.js";
import { WrongView } from "./wrong.js";

/** How long to wait before the stream of notices is opened again, in milliseconds. */
const AGAIN_MS = 2000;

/** Where the account box stands above the flow, as `frame.css` has it. */
const NARROW = "(max-width: 900px)";

const main = document.querySelector("#view");
const live = document.querySelector(".live");
const view = (make) => {
  const root = element("section");
  return { root, view: make(root) };
};

const views = {
  flow: view((root) => new FlowView(root)),
  flows: view((root) => new FlowsView(root)),
  rules: view((root) => new RulesView(root)),
  wrong: view((root) => new WrongView(root, tellWrong)),
};
let shown = null;
/** The trace of the request that waits for its answer. */
let waiting = null;

/** `#/flow/<id>`, `#/flows`, `#/rules/<name>`, `#/wrong`; anything else is the beginning. */
function route() {
  const [, name = "", rest] = location.hash.split("/");
  const known = Object.hasOwn(views, name) ? name : "flow";
  const argument = rest === undefined || rest === "" ? null : decodeURIComponent(rest);
  if (shown !== known) {
    if (shown !== null) views[shown].view.hide();
    fill(main, views[known].root);
    shown = known;
  }
  document.body.dataset.view = known;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === known) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  views[known].view.show(argument);
  if (known === "flow") document.querySelector('nav a[data-view="flow"]').href = argument === null ? "#/" : `#/flow/${argument}`;
}

function tellWrong(count) {
  const figure = document.querySelector("nav .count");
  figure.hidden = count === 0;
  figure.textContent = String(count);
}

function tellLive(state, text) {
  live.dataset.state = state;
  live.querySelector(".live-text").textContent = text;
}

/** Hears what happens, for as long as the page is there. */
async function listen() {
  for (;;) {
    try {
      for await (const notice of notices()) {
        tellLive("on", "live");
        const own = waiting !== null && notice.flows.find((flow) => flow.trace === waiting);
        if (own) open(own.flow);
        if (shown !== null) views[shown].view.heard?.(notice.flows);
      }
      tellLive("off", "reconnecting");
    } catch (error) {
      if (error.status === 401) return askForToken(error.message);
      tellLive("off", "not live");
      live.title = error.message;
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

/** What the page shows is what people do, so that it may ask who looks. */
function askForToken(why) {
  tellLive("off", "locked");
  const input = element("input", { id: "token", type: "password", autocomplete: "off", required: true, minlength: "32", spellcheck: "false" });
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
    element("h2", {}, "The operator’s token"),
    element("p", {}, "This page shows what everybody does here, so this edge shows it to operators only. The token stands in the file that the edge was given with ", element("code", {}, "--page-token-file"), "."),
    hasToken() && element("p.notice.bad", { role: "alert" }, why),
    element("label", { for: "token" }, "Token"),
    input,
    element("div.buttons", {}, element("button.main", { type: "submit" }, "Show the flows")),
  );
  if (shown !== null) views[shown].view.hide();
  shown = null;
  removeEventListener("hashchange", route);
  fill(main, form);
}

/** Shows the flow of a request of the page's own, once: while it is slow, or when it is answered. Whoever looks at something else by then is left there. */
function open(flow) {
  if (waiting === null) return;
  waiting = null;
  if (shown === null || location.hash === `#/flow/${flow}`) return;
  location.hash = `#/flow/${flow}`;
  if (matchMedia(NARROW).matches) main.scrollIntoView();
}

function start() {
  addEventListener("hashchange", route);
  route();
  views.wrong.view.watch();
  listen();
}

async function begin() {
  try {
    const { base, token } = await settings();
    const sent = (trace) => {
      waiting = trace;
    };
    new Account(document.querySelector(".account"), base, sent, open);
    if (token && !hasToken()) askForToken("");
    else start();
  } catch (error) {
    tellLive("off", "not live");
    fill(main, element("div.notice.bad", { role: "alert" }, error.message));
    setTimeout(begin, AGAIN_MS);
  }
}

begin();
