/** A translated rule, and its text. */

import type { Place } from "./project.js";
import type { Type } from "./types.js";

/** An expression in the language of rules. A higher level binds tighter. */
export interface Expr {
  text: string;
  level: number;
  type?: Type | undefined;
}

export const LEVELS = {
  or: 1,
  and: 2,
  not: 3,
  compare: 4,
  or_else: 5,
  sum: 6,
  product: 7,
  primary: 9,
};

/** A key of a pattern or call with its variable or value. */
export interface Arg {
  key: string;
  value: string;
  optional?: boolean;
}

/** A pattern of `when`. */
export interface Pattern {
  concept: string;
  action: string;
  input: Arg[];
  output: Arg[];
}

/** A call of `then` or `else`. */
export type Call = Pattern;

/** A query of `where`. */
export interface QueryStep {
  step: "query";
  concept: string;
  query: string;
  input: Arg[];
  output: Arg[];
  isMany: boolean;
  /** Whether the query has exactly one row, with all keys. */
  isOne: boolean;
  /** Whether the source has a row, or a row with an error, in every case. */
  neverEmpty: boolean;
  /** Whether the frame remains without a row. */
  isOptional?: boolean;
  answer?: Call;
}

/** A step of `where`. */
export type Step =
  | QueryStep
  | { step: "let"; name: string; expr: Expr }
  | { step: "each"; name: string; expr: Expr }
  | { step: "condition"; expr: Expr; answer?: Call }
  | { step: "collect"; fields: Arg[]; as: string };

/** A request of a path, as a pattern of `when`. */
export function requestPattern(path: string, input: Arg[] = []): Pattern {
  return {
    concept: "Requesting",
    action: "request",
    input: [{ key: "path", value: path }, ...input],
    output: [{ key: "request", value: "request" }],
  };
}

/** A call that responds to a request; `action` is `respond` or `respondWith`. */
export function answer(action: string, args: Arg[], request = "request"): Call {
  return {
    concept: "Requesting",
    action,
    input: [{ key: "request", value: request }, ...args],
    output: [],
  };
}

/** The variables that a step binds. */
export function boundBy(step: Step): string[] {
  if (step.step === "query") return step.output.map(({ value }) => value);
  return step.step === "let" || step.step === "each" ? [step.name] : [];
}

/** How faithful a translation is. */
export type Verdict = "exact" | "changed" | "by hand" | "broken at the source" | "added";

/** A rule of the source with its translation. */
export interface Rule {
  name: string;
  place: Place;
  comment: string[];
  verdict: Verdict;
  /** What changed, or the construct. */
  notes: string[];
  when: Pattern[];
  where: Step[];
  then: Call[];
  /** Calls of `else (error)`. */
  otherwise?: Call[];
}

/** The text of a rule. `concert fmt` breaks long lines in the same way. */
export function ruleText(rule: Rule): string {
  const lines = rule.comment.map((line) => `// ${line}`.trimEnd());
  const notes = rule.verdict === "changed" ? rule.notes.map((note) => `changed: ${note}`) : [];
  lines.push(...notes.flatMap((note) => wrap(note).map((line) => `// ${line}`)));
  lines.push(`sync ${rule.name}`, "when", ...rule.when.map((of) => `    ${callText(of)}`));
  if (rule.where.length > 0) lines.push("where", ...rule.where.flatMap(stepLines));
  lines.push("then", ...rule.then.map((of) => `    ${callText(of)}`));
  if (rule.otherwise)
    lines.push("else (error)", ...rule.otherwise.map((of) => `    ${callText(of)}`));
  return `${lines.join("\n")}\n`;
}

function stepLines(step: Step): string[] {
  const otherwise = (of: Call | undefined): string[] =>
    of ? [`        else ${callText(of)}`] : [];
  switch (step.step) {
    case "query": {
      const { concept, query, input, output } = step;
      const mark = step.isOptional ? "optional " : output.length === 0 ? "some " : "";
      const text = callText({ concept, action: query, input, output });
      return [`    ${mark}${text}`, ...otherwise(step.answer)];
    }
    case "let":
      return [`    let ${step.name} = ${step.expr.text}`];
    case "each":
      return [`    each ${step.name} in ${step.expr.text}`];
    case "condition":
      return [`    ${step.expr.text}`, ...otherwise(step.answer)];
    case "collect": {
      const [only] = step.fields;
      const fields = only?.key === "" ? only.value : `(${argsText(step.fields)})`;
      return [`    collect ${fields} as ${step.as}`];
    }
  }
}

function callText({ concept, action, input, output }: Pattern): string {
  const outputs = output.length > 0 ? ` : (${argsText(output)})` : "";
  return `${concept}.${action} (${argsText(input)})${outputs}`;
}

function argsText(args: Arg[]): string {
  return args
    .map(({ key, value, optional }) => {
      const mark = optional ? "?" : "";
      return value === key ? `${key}${mark}` : `${key}${mark}: ${value}`;
    })
    .join(", ");
}

/** Breaks a text into lines of at most 96 characters. */
export function wrap(text: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + word.length + 1 > 96) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return line === "" ? lines : [...lines, line];
}

const RESERVED = new Set([
  ...["sync", "when", "where", "then", "else", "let", "each", "in", "collect", "as", "optional"],
  ...["some", "no", "or", "and", "not", "true", "false", "null"],
]);

/** Gives the variables of a rule distinct names. */
export class Names {
  readonly #taken = new Set<string>();

  /** A name that no other variable of the rule has, similar to `wanted`. */
  fresh(wanted: string): string {
    let base = wanted.replaceAll(/\W/g, "").replace(/^_+/, "");
    base = base.charAt(0).toLowerCase() + base.slice(1);
    if (!/^[a-z]/.test(base) || RESERVED.has(base)) base = `${base || "value"}Value`;
    let name = base;
    for (let number = 2; this.#taken.has(name); number++) name = `${base}${number}`;
    this.#taken.add(name);
    return name;
  }
}
