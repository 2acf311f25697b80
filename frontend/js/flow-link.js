// @ts-check
// The link "What this did": the flow of the last request, in the operators' console.

import { api } from "./api.js";
import { element } from "./element.js";

const LOOPBACK = /^(localhost|127\.|\[::1\])/;

/**
 * Address of the console, or null: a console on this machine is of no use to a page from another.
 * @param {string} address
 * @param {string} host of the page
 */
export function consoleFor(address, host) {
  if (!/^https?:\/\//.test(address)) return null;
  const isLocal = LOOPBACK.test(new URL(address).host);
  return isLocal && !LOOPBACK.test(host) ? null : address.replace(/\/$/, "");
}

/** A link that follows the last request. Without a console it stays hidden. */
export function flowLink() {
  const given = document.querySelector('meta[name="console"]')?.getAttribute("content") ?? "";
  const address = consoleFor(given, location.host);
  const link = element(
    "a.flow",
    { target: "_blank", rel: "noopener", hidden: true },
    "What this did",
  );
  const update = () => {
    if (address === null || api.last === null) return;
    link.href = `${address}/#/flow/${api.last.flow}`;
    link.title = `${api.last.path}, step by step in the console`;
    link.hidden = false;
  };
  api.addEventListener("flow", update);
  update();
  return link;
}
