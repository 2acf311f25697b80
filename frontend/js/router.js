// @ts-check
// Addresses such as `#/read/<document>`, and the view that each shows.

import { api } from "./api.js";
import { element, fill } from "./element.js";

/** @typedef {{ root: Element, title: string, leave?: () => void }} View */
/** `open`: for visitors without a login; `bare`: without header and footer. */
/** @typedef {{ view: (argument: string) => View | Promise<View>, open?: boolean, bare?: boolean }} Route */

const HOME = "library";

/**
 * Name and argument of an address.
 * @param {string} hash
 */
export function parseHash(hash) {
  const [, name = "", argument = ""] = hash.split("/");
  try {
    return { name, argument: decodeURIComponent(argument) };
  } catch {
    return { name, argument: "" };
  }
}

/** Opens a view. @param {string} path such as `read/<document>` */
export function go(path) {
  location.hash = `#/${path}`;
}

export class Router {
  /** @type {View | null} */
  #shown = null;
  /** Increases with each address, so that a slow view does not replace a later one. */
  #turn = 0;
  /** @type {(name: string, route: Route) => void} */
  onChange = () => {};

  /** @param {HTMLElement} main @param {Record<string, Route>} routes */
  constructor(main, routes) {
    this.main = main;
    this.routes = routes;
  }

  start() {
    addEventListener("hashchange", () => this.#show());
    this.#show();
  }

  async #show() {
    const given = parseHash(location.hash);
    const name = Object.hasOwn(this.routes, given.name) ? given.name : HOME;
    const route = this.routes[name];
    if (!api.login && !route.open) return go("login");
    if (api.login && route.open) return go(HOME);
    this.#turn += 1;
    const turn = this.#turn;
    this.#shown?.leave?.();
    this.#shown = null;
    this.onChange(name, route);
    this.main.setAttribute("aria-busy", "true");
    fill(this.main, element("p.loading", {}, "Loading…"));
    let view;
    try {
      view = await route.view(given.argument);
    } catch (error) {
      view = failed(error, () => this.#show());
    }
    if (turn !== this.#turn) return view.leave?.();
    this.#shown = view;
    this.main.removeAttribute("aria-busy");
    document.title = `${view.title} – Reader`;
    fill(this.main, view.root);
    scrollTo(0, 0);
    const target = view.root.querySelector("[data-autofocus]") ?? view.root.querySelector("h1");
    if (target instanceof HTMLElement) {
      if (target.matches("h1")) target.tabIndex = -1;
      target.focus({ preventScroll: true });
    }
  }
}

/** @param {any} error @param {() => void} retry @returns {View} */
function failed(error, retry) {
  const root = element(
    "section.card.failed",
    {},
    element("h1", {}, "This page could not be loaded"),
    element("p", { role: "alert" }, error.message),
    element(
      "p.actions",
      {},
      element("button.primary", { type: "button", on: { click: retry } }, "Try again"),
      element("a.button", { href: "#/library" }, "Go to the library"),
    ),
  );
  return { root, title: "Error" };
}
