// @ts-check
// Sign up and log in.

import { api } from "../api.js";
import { element, icon, toast } from "../element.js";
import { field, form } from "../form.js";
import { go } from "../router.js";

/** @param {string} username @param {string} password */
async function logIn(username, password) {
  const { user, session } = await api.call("auth/login", { username, password });
  api.login = { user, username, ...(session ? { session } : {}) };
  go("library");
}

/** @param {string} title @param {string} lead @param {HTMLFormElement} body @param {Node} other */
function page(title, lead, body, other) {
  return element(
    "section.door",
    {},
    element("div.door-mark", {}, icon("book"), element("span", {}, "Reader")),
    element("div.card", {}, element("h1", {}, title), element("p.lead", {}, lead), body),
    element("p.other", {}, other),
  );
}

const nameField = () =>
  field("Username", {
    name: "username",
    autocomplete: "username",
    "data-autofocus": true,
    autocapitalize: "none",
    spellcheck: "false",
  });

/** @returns {import("../router.js").View} */
export function logInView() {
  const username = nameField();
  const password = field("Password", {
    name: "password",
    type: "password",
    autocomplete: "current-password",
  });
  const body = form({ button: "Log in", name: "Log in" }, [username.root, password.root], () =>
    logIn(username.input.value, password.input.value),
  );
  const other = element(
    "span",
    {},
    "New here? ",
    element("a", { href: "#/signup" }, "Create an account"),
  );
  const root = page("Welcome back", "Log in to continue reading.", body, other);
  return { root, title: "Log in" };
}

/** @returns {import("../router.js").View} */
export function signUpView() {
  const username = nameField();
  const password = field(
    "Password",
    { name: "password", type: "password", autocomplete: "new-password", minlength: "8" },
    "At least 8 characters. A few unrelated words are easy to remember.",
  );
  const fields = [username.root, password.root];
  const body = form({ button: "Create account", name: "Create an account" }, fields, async () => {
    const [name, secret] = [username.input.value, password.input.value];
    await api.call("Profile/createAccount", { username: name, password: secret });
    toast("Your account is ready.");
    try {
      await logIn(name, secret);
    } catch {
      go("login");
    }
  });
  const other = element(
    "span",
    {},
    "Have an account? ",
    element("a", { href: "#/login" }, "Log in"),
  );
  const root = page("Create an account", "A library of your own, on every device.", body, other);
  return { root, title: "Create an account" };
}
