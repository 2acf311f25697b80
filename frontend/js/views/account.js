// @ts-check
// The account: password, sessions and deletion.

import { api } from "../api.js";
import { element, fill, toast } from "../element.js";
import { confirm, field, form } from "../form.js";
import { go } from "../router.js";

/** @returns {Promise<import("../router.js").View>} */
export async function accountView() {
  const { username } = await api.call("auth/whoami");
  const sessions = element("section.card", { "aria-labelledby": "sessions" });
  await drawSessions(sessions);
  const root = element(
    "section.account",
    {},
    element(
      "div.head",
      {},
      element("h1", {}, "Account"),
      element("p.lead", {}, "Logged in as ", element("strong", {}, username)),
      element("button", { type: "button", id: "log-out", on: { click: logOut } }, "Log out"),
    ),
    element("div.split", {}, passwordCard(username), sessions),
    deletionCard(username),
  );
  return { root, title: "Account" };
}

async function logOut() {
  try {
    await api.call("auth/logout");
  } catch {
    // A session that has ended is as good as logged out.
  }
  api.login = null;
  toast("You are logged out.");
  go("login");
}

/** A hidden name for password managers. @param {string} username */
function hiddenName(username) {
  return element("input", {
    type: "text",
    name: "username",
    autocomplete: "username",
    value: username,
    readonly: true,
    class: "visually-hidden",
    tabindex: "-1",
    "aria-hidden": "true",
  });
}

/** @param {string} username */
function passwordCard(username) {
  const old = field("Current password", {
    name: "old",
    type: "password",
    autocomplete: "current-password",
  });
  const fresh = field(
    "New password",
    { name: "new", type: "password", autocomplete: "new-password", minlength: "8" },
    "At least 8 characters. All other sessions end.",
  );
  const asked = form(
    { button: "Change password", name: "Change password" },
    [hiddenName(username), old.root, fresh.root],
    async () => {
      const { session } = await api.call("auth/changePassword", {
        oldPassword: old.input.value,
        newPassword: fresh.input.value,
      });
      if (api.login && session) api.login = { ...api.login, session };
      asked.reset();
      toast("The password is changed.");
      const sessions = document.querySelector(".account [aria-labelledby=sessions]");
      if (sessions) await drawSessions(sessions);
    },
  );
  return element("section.card", {}, element("h2", {}, "Password"), asked);
}

/** @param {Element} card @param {any[]} [earlier] @param {string} [after] */
async function drawSessions(card, earlier = [], after = undefined) {
  const { sessions, next } = await api.call("auth/sessions", after === undefined ? {} : { after });
  const all = [...earlier, ...sessions];
  const more = element(
    "button",
    { type: "button", on: { click: () => report(() => drawSessions(card, all, next)) } },
    "Show more",
  );
  fill(
    card,
    element("h2", { id: "sessions" }, "Where you are logged in"),
    element("ul.rows", {}, ...all.map((one) => row(card, one))),
    element(
      "p.actions",
      {},
      next !== undefined && more,
      element("button", { type: "button", on: { click: () => endAll() } }, "Log out everywhere"),
    ),
  );
}

/** @param {Element} card @param {any} session */
function row(card, { id, createdAt, lastUsedAt, device, current }) {
  const when = (/** @type {any} */ time) => {
    const date = new Date(time);
    return Number.isNaN(date.getTime())
      ? "an unknown time"
      : new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" }).format(date);
  };
  const end = () =>
    report(async () => {
      await api.call("auth/endSession", { id });
      toast("The session is ended.");
      await drawSessions(card);
    });
  const name = device || "Unknown device";
  return element(
    "li",
    {},
    element("span.row-name", {}, name),
    element(
      "span.row-figure",
      {},
      current
        ? element("span.badge", {}, "this one")
        : element(
            "button",
            { type: "button", "aria-label": `End the session on ${name}`, on: { click: end } },
            "End",
          ),
    ),
    element("span.hint", {}, `Last used ${when(lastUsedAt ?? createdAt)}`),
  );
}

/** @param {() => Promise<void>} work */
async function report(work) {
  try {
    await work();
  } catch (/** @type {any} */ error) {
    toast(error.message);
  }
}

async function endAll() {
  const words = {
    title: "Log out everywhere?",
    text: "All sessions end, also this one.",
    button: "Log out everywhere",
  };
  if (!(await confirm(words, [], () => api.call("auth/logoutEverywhere")))) return;
  api.login = null;
  go("login");
}

/** @param {string} username */
function deletionCard(username) {
  const ask = async () => {
    const password = field("Password", {
      name: "password",
      type: "password",
      autocomplete: "current-password",
      autofocus: true,
    });
    const words = {
      title: "Delete the account?",
      text: "Your books, notes, settings and statistics are deleted with it. This cannot be undone.",
      button: "Delete my account",
    };
    const act = () => api.call("auth/deleteAccount", { password: password.input.value });
    if (!(await confirm(words, [hiddenName(username), password.root], act))) return;
    api.login = null;
    toast("Your account is deleted.");
    go("signup");
  };
  return element(
    "section.card.danger-zone",
    {},
    element("h2", {}, "Delete the account"),
    element("p", {}, "Removes the account with all its books, notes and statistics."),
    element(
      "p.actions",
      {},
      element("button.danger", { type: "button", on: { click: ask } }, "Delete account…"),
    ),
  );
}
