// @ts-check
// Reading times: totals, days, books and single sessions.

import { api } from "../api.js";
import { books, libraryId } from "../books.js";
import { element, fill, icon, toast } from "../element.js";
import { confirm } from "../form.js";
import { duration, length, perBook, perDay, streak } from "../reading.js";

const DAYS = 14;
const SHOWN_MAX = 50;

/** @returns {Promise<import("../router.js").View>} */
export async function statisticsView() {
  const root = element("section.statistics");
  await draw(root);
  return { root, title: "Statistics" };
}

/** @param {Element} root */
async function draw(root) {
  const [{ sessions }, found] = await Promise.all([
    api.call("FocusStats/_getSessions"),
    libraryId().then(books),
  ]);
  const names = new Map(found.map(({ id, name }) => [id, name]));
  const name = (/** @type {string} */ id) => names.get(id) ?? "Removed book";
  const heading = element("h1", {}, "Statistics");
  if (sessions.length === 0) {
    const hint = element("p", {}, "Open a book, and your reading time appears here.");
    const link = element("a.button.primary", { href: "#/library" }, "Go to the library");
    fill(
      root,
      heading,
      element("div.empty", {}, icon("chart"), element("h2", {}, "No reading yet"), hint, link),
    );
    return;
  }
  const total = sessions.reduce(
    (/** @type {number} */ sum, /** @type {any} */ one) => sum + length(one),
    0,
  );
  const days = streak(sessions, Date.now());
  fill(
    root,
    heading,
    element(
      "dl.figures",
      {},
      figure("Time read", duration(total)),
      figure("Sessions", String(sessions.length)),
      figure("Days in a row", String(days)),
    ),
    chart(perDay(sessions, DAYS, Date.now())),
    byBook(perBook(sessions), name),
    list([...sessions].reverse(), name, root),
  );
}

/** @param {string} name @param {string} value */
function figure(name, value) {
  return element("div.card", {}, element("dt", {}, name), element("dd", {}, value));
}

/** @param {{ day: number, ms: number }[]} days */
function chart(days) {
  const most = Math.max(...days.map(({ ms }) => ms), 60_000);
  const full = new Intl.DateTimeFormat("en", { weekday: "long", day: "numeric", month: "long" });
  const short = new Intl.DateTimeFormat("en", { weekday: "narrow" });
  return element(
    "section.card",
    { "aria-labelledby": "days" },
    element("h2", { id: "days" }, `Last ${DAYS} days`),
    element(
      "ol.chart",
      {},
      ...days.map(({ day, ms }) => {
        const text = `${full.format(day)}: ${duration(ms)}`;
        return element(
          "li",
          { title: text, vars: { "--part": ms / most } },
          element("span.visually-hidden", {}, text),
          element("span.bar", { "aria-hidden": "true" }),
          element("span.day", { "aria-hidden": "true" }, short.format(day)),
        );
      }),
    ),
  );
}

/** @param {{ document: string, ms: number, count: number }[]} rows @param {(id: string) => string} name */
function byBook(rows, name) {
  return element(
    "section.card",
    { "aria-labelledby": "by-book" },
    element("h2", { id: "by-book" }, "Books"),
    element(
      "ul.rows",
      {},
      ...rows.map(({ document, ms, count }) =>
        element(
          "li",
          {},
          element("span.row-name", {}, name(document)),
          element("span.row-figure", {}, duration(ms)),
          element("span.hint", {}, count === 1 ? "1 session" : `${count} sessions`),
        ),
      ),
    ),
  );
}

/** @param {import("../reading.js").Session[]} sessions newest first @param {(id: string) => string} name @param {Element} root */
function list(sessions, name, root) {
  const when = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
  const remove = async (/** @type {string} */ id) => {
    const words = {
      title: "Remove the session?",
      text: "Its time is taken off your statistics.",
      button: "Remove",
    };
    const act = () => api.call("FocusStats/removeSession", { focusSession: id });
    if (!(await confirm(words, [], act))) return;
    try {
      await draw(root);
    } catch (/** @type {any} */ error) {
      toast(error.message);
    }
  };
  const rest = sessions.length - SHOWN_MAX;
  return element(
    "section.card",
    { "aria-labelledby": "sessions" },
    element("h2", { id: "sessions" }, "Sessions"),
    element(
      "ul.rows",
      {},
      ...sessions.slice(0, SHOWN_MAX).map((one) => {
        const date = when.format(Date.parse(one.startTime));
        const label = `Remove the session of ${date}`;
        return element(
          "li",
          {},
          element("span.row-name", {}, name(one.document)),
          element("span.row-figure", {}, one.endTime ? duration(length(one)) : "open"),
          element("span.hint", {}, date),
          element(
            "button.quiet",
            {
              type: "button",
              title: "Remove",
              "aria-label": label,
              on: { click: () => remove(one._id) },
            },
            icon("trash"),
          ),
        );
      }),
    ),
    rest > 0 && element("p.hint", {}, `${rest} older sessions are not shown.`),
  );
}
