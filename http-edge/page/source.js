// The text of a rule: line numbers of its patterns, steps and calls, and the marked listing.

import { breakable, element } from "./element.js";

const SECTIONS = ["when", "where", "then", "else"];

/**
 * Finds the lines of the parts of a rule.
 *
 * @param {string} text
 * @returns {{patterns: number[][], steps: number[][], calls: number[][]}} line numbers from 0;
 *   `calls` are those of `then`
 */
export function partsOf(text) {
  const parts = { when: [], where: [], then: [], else: [] };
  let section = null;
  let depth = 0;
  text.split("\n").forEach((line, number) => {
    const bare = withoutStrings(line).trim();
    if (bare === "") return;
    const [word] = bare.split(/[^A-Za-z]/, 1);
    let rest = bare;
    if (depth === 0 && SECTIONS.includes(word) && !(section === "where" && word === "else")) {
      section = word;
      rest = bare.slice(word.length).trim();
      if (word === "else") rest = "";
    }
    if (section === null || rest === "") return;
    const list = parts[section];
    const continues = depth > 0 || rest.startsWith(":") || (section === "where" && word === "else");
    if (continues && list.length > 0) list[list.length - 1].push(number);
    else list.push([number]);
    for (const character of rest) {
      if ("([{".includes(character)) depth += 1;
      if (")]}".includes(character)) depth -= 1;
    }
  });
  return { patterns: parts.when, steps: parts.where, calls: parts.then };
}

const withoutStrings = (line) => line.replace(/"(?:[^"\\]|\\.)*"/g, '""').replace(/\/\/.*$/, "");

const TOKENS = /(\/\/.*$)|("(?:[^"\\]|\\.)*")|\b(sync|when|where|then|optional|some|no|each|let|collect|as|else|in|and|or|not)\b(?!\s*:)|\b([A-Z]\w*\.\w+)/g;

/**
 * The text of a rule, with marked lines.
 *
 * @param {{text: string, file?: string, line?: number}} sync
 * @param {Map<number, {kind: "matched"|"failed"|"called", note?: string}>} marks
 *   by line, from 0
 */
export function listing(sync, marks = new Map()) {
  const lines = sync.text.replace(/\n+$/, "").split("\n");
  const first = sync.line ?? 1;
  return element(
    "ol.source",
    { "aria-label": "Text of the rule" },
    lines.map((line, number) => {
      const mark = marks.get(number);
      return element(
        `li${mark ? `.${mark.kind}` : ""}`,
        { value: first + number },
        element("span.number", { "aria-hidden": "true" }, first + number),
        element("span.mark", {}, mark ? SIGNS[mark.kind] : ""),
        element("code", {}, tokens(line)),
        mark?.note && element("span.note", {}, mark.note),
      );
    }),
  );
}

const SIGNS = { matched: "✓", failed: "✕", called: "▶" };

function tokens(line) {
  const spans = [];
  let end = 0;
  for (const found of line.matchAll(TOKENS)) {
    spans.push(...breakable(line.slice(end, found.index)));
    const kind = ["comment", "string", "keyword", "action"].find((_, at) => found[at + 1] !== undefined);
    spans.push(element(`span.${kind}`, {}, found[0]));
    end = found.index + found[0].length;
  }
  spans.push(...breakable(line.slice(end)));
  return spans;
}
