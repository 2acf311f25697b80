// @ts-check
// Starts the app: header, footer, routes and the end of a session.

import { api, Client, useClient } from "./api.js";
import { element, fill, icon, toast } from "./element.js";
import { flowLink } from "./flow-link.js";
import { applyTheme } from "./preferences.js";
import { go, Router } from "./router.js";
import { accountView } from "./views/account.js";
import { libraryView } from "./views/library.js";
import { logInView, signUpView } from "./views/login.js";
import { readerView } from "./views/reader.js";
import { settingsView } from "./views/settings.js";
import { statisticsView } from "./views/statistics.js";

/** @type {[string, string, keyof typeof import("./element.js").SHAPES][]} */
const LINKS = [
  ["library", "Library", "book"],
  ["statistics", "Statistics", "chart"],
  ["settings", "Text", "text"],
  ["account", "Account", "user"],
];

useClient(new Client());
applyTheme();
const top = /** @type {HTMLElement} */ (document.querySelector("#top"));
const foot = /** @type {HTMLElement} */ (document.querySelector("#foot"));
const main = /** @type {HTMLElement} */ (document.querySelector("#main"));

const links = LINKS.map(([path, text, shape]) =>
  element("a", { href: `#/${path}`, "data-view": path }, icon(shape), element("span", {}, text)),
);
fill(
  top,
  element("a.brand", { href: "#/library" }, icon("book"), element("span", {}, "Reader")),
  element("nav", { "aria-label": "Main" }, ...links),
);
fill(foot, flowLink());

const router = new Router(main, {
  login: { view: logInView, open: true },
  signup: { view: signUpView, open: true },
  library: { view: libraryView },
  read: { view: readerView, bare: true },
  statistics: { view: statisticsView },
  settings: { view: settingsView },
  account: { view: accountView },
});

router.onChange = (name, route) => {
  top.hidden = route.open === true || route.bare === true;
  foot.hidden = route.bare === true;
  document.body.dataset.view = name;
  for (const link of links) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
};

api.addEventListener("ended", () => {
  toast("Your session has ended. Log in again.");
  go("login");
});
document.querySelector("#skip")?.addEventListener("click", () => main.focus());
router.start();
