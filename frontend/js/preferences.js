// @ts-check
// What this browser remembers: colours, and the place in each book.

const THEME = "reader.theme";
/** @typedef {"system" | "light" | "dark"} Theme */
/** @typedef {{ chapter: number, part: number }} Place `part`: scrolled part of the chapter, 0 to 1 */

/** @returns {Theme} */
export function theme() {
  const stored = localStorage.getItem(THEME);
  return stored === "light" || stored === "dark" ? stored : "system";
}

/** Applies the chosen colours to the page. @param {string} [chosen] */
export function applyTheme(chosen) {
  if (chosen !== undefined) localStorage.setItem(THEME, chosen);
  const now = theme();
  document.documentElement.style.colorScheme = now === "system" ? "light dark" : now;
  dispatchEvent(new Event("themechange"));
}

/** @param {string} user @param {string} id */
const key = (user, id) => `reader.place.${user}.${id}`;

/**
 * The place where a book was left, if any.
 * @param {string} user
 * @param {string} id of the document
 * @param {Pick<Storage, "getItem">} [store]
 * @returns {Place | null}
 */
export function place(user, id, store = localStorage) {
  try {
    const { chapter, part } = JSON.parse(store.getItem(key(user, id)) ?? "null") ?? {};
    const isPlace = Number.isInteger(chapter) && chapter >= 0 && part >= 0 && part <= 1;
    return isPlace ? { chapter, part } : null;
  } catch {
    return null;
  }
}

/** @param {string} user @param {string} id @param {Place} at */
export function keepPlace(user, id, at) {
  try {
    localStorage.setItem(key(user, id), JSON.stringify(at));
  } catch {
    // A full store loses the place only.
  }
}

/** @param {string} user @param {string} id */
export function forgetPlace(user, id) {
  localStorage.removeItem(key(user, id));
}
