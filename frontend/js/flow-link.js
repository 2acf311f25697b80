// @ts-check
// The link "What this did": the flow of the last request, in the operators' console.

import { api } from "./api.js";
import { element } from "./element.js";

/** @type {Promise<string | null> | undefined} */
let found;

/** Address of the console, or null. The server names it only to pages that can open it. */
async function findConsole() {
  try {
    const response = await fetch("/_concert/console");
    const { console } = response.ok ? await response.json() : { console: null };
    return typeof console === "string" ? console : null;
  } catch {
    return null;
  }
}

/** A link that follows the last request. Without a console it stays hidden. */
export function flowLink() {
  /** @type {string | null} */
  let address = null;
  const link = element(
    "a.flow",
    { target: "_blank", rel: "noopener", hidden: true },
    "What this did",
  );
  const update = () => {
    if (address === null || api.last === null) return;
    link.href = `${address}#/flow/${api.last.flow}`;
    link.title = `${api.last.path}, step by step in the console`;
    link.hidden = false;
  };
  api.addEventListener("flow", update);
  found ??= findConsole();
  found.then((console) => {
    address = console;
    update();
  });
  return link;
}
