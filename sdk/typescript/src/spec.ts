/** Reads concept specs, and checks values against them. */

import { createHash } from "node:crypto";
import { looksSealed } from "./seal.js";
import { check, isSecret, type Field, type Type } from "./types.js";
import { canonical, type Json, type JsonObject } from "./value.js";

const TOKEN =
  /\s*(?:(?<text>"(?:[^"\\]|\\.)*")|(?<word>[A-Za-z_]\w*)|(?<number>\d+)|(?<symbol>\.\.\.|[(){}:,?*|]))/y;
const SECTIONS = ["purpose", "principle", "state", "actions", "queries"];
const BUILT_IN = ["String", "Number", "Boolean", "Date", "Secret", "Any"];

/** The text is not a spec; `concert check` explains it in detail. */
export class BadSpec extends Error {}

/** A parameter of an action or query. */
export interface Param {
  name: string;
  optional: boolean;
  type: Type;
}

/** A parameter list; `open` permits further keys. */
export class Params {
  params: Param[] = [];
  open = false;

  has(name: string): boolean {
    return this.params.some((param) => param.name === name);
  }

  /** Names of the parameters whose values are secret. */
  secrets(): string[] {
    return this.params.filter(({ type }) => isSecret(type)).map(({ name }) => name);
  }

  /** All violations of the list as one line, without values; `null` if there is none. */
  mistakes(value: JsonObject): string | null {
    const found: string[] = [];
    for (const { name, optional, type } of this.params) {
      if (!Object.hasOwn(value, name)) {
        if (!optional) found.push(`\`${name}\` is missing`);
        continue;
      }
      if (isSecret(type) && looksSealed(value[name])) continue;
      const problem = check(type, value[name]!);
      if (problem) found.push(`\`${name}${problem[0]}\` ${problem[1]}`);
    }
    const unknown = this.open ? [] : Object.keys(value).filter((key) => !this.has(key));
    found.push(...unknown.map((key) => `\`${key}\` is not a parameter`));
    return found.join("; ") || null;
  }

  /** The list as JSON, for the hash of the spec. */
  signature(): JsonObject {
    const sorted = this.params.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    return { params: sorted as unknown as Json[], open: this.open };
  }
}

/** An action with its outcomes. */
export interface Action {
  name: string;
  input: Params;
  success: Params | null;
  canFail: boolean;
  hasEffects: boolean;
}

/** One query. */
export interface Query {
  name: string;
  input: Params;
  output: Params;
  rows: "one" | "atMostOne" | "any";
}

/** The first violation of a query's spec in its rows. */
export function rowMistakes(query: Query, rows: JsonObject[]): string | null {
  const { rows: count, name } = query;
  if ((count === "one" && rows.length !== 1) || (count === "atMostOne" && rows.length > 1)) {
    return `${name} returned ${rows.length} rows, which its spec does not allow`;
  }
  for (const row of rows) {
    const found = query.output.mistakes(row);
    if (found) return `a row of ${name} does not match its spec: ${found}`;
  }
  return null;
}

/** The spec of one concept. */
export class Spec {
  purpose = "";
  readonly actions = new Map<string, Action>();
  readonly queries = new Map<string, Query>();

  constructor(readonly name: string) {}

  /** Reads the text of a `.concept` file. Throws {@link BadSpec}. */
  static parse(text: string): Spec {
    return parseSpec(text);
  }

  /** All signatures as JSON, without prose and in a fixed order. */
  signature(): JsonObject {
    const sorted = <T extends { name: string }>(of: Map<string, T>): T[] =>
      [...of.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    const actions = sorted(this.actions).map(({ name, input, success, canFail, hasEffects }) => ({
      name,
      input: input.signature(),
      success: success?.signature() ?? null,
      canFail,
      hasEffects,
    }));
    const queries = sorted(this.queries).map(({ name, input, output, rows }) => ({
      name,
      input: input.signature(),
      output: output.signature(),
      rows,
    }));
    return { concept: this.name, actions, queries };
  }

  /** SHA-256 of the canonical signature, in hexadecimal digits. */
  hash(): string {
    return createHash("sha256").update(canonical(this.signature())).digest("hex");
  }
}

interface Line {
  indent: number;
  code: string;
}

function lineOf(raw: string): Line {
  const text = raw.trim();
  let isText = false;
  let end = text.length;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '"' && text[at - 1] !== "\\") isText = !isText;
    else if (!isText && text.startsWith("//", at)) {
      end = at;
      break;
    }
  }
  return { indent: raw.length - raw.trimStart().length, code: text.slice(0, end).trimEnd() };
}

function openBrackets(code: string): number {
  const bare = code.replaceAll(/"(?:[^"\\]|\\.)*"/g, "");
  return bare.replaceAll(/[^({]/g, "").length - bare.replaceAll(/[^)}]/g, "").length;
}

function parseSpec(text: string): Spec {
  const lines = text.replace(/^\ufeff/, "").split(/\r?\n/).map(lineOf).filter(({ code }) => code);
  const head = /^concept\s+(\w+)/.exec(lines[0]?.code ?? "");
  if (!head) throw new BadSpec("a spec begins with `concept Name`");
  const spec = new Spec(head[1]!);
  let section = "";
  let margin: number | null = null;
  let last: Action | null = null;
  for (let at = 1; at < lines.length; ) {
    const { indent, code } = lines[at++]!;
    const word = code.split(/\s/)[0]!;
    if (indent === 0) {
      if (!SECTIONS.includes(word)) throw new BadSpec(`expected a section, found \`${word}\``);
      [section, margin, last] = [word, null, null];
      if (section === "purpose") spec.purpose = code.slice(word.length).trim();
    } else if (section === "purpose") {
      spec.purpose = `${spec.purpose} ${code}`.trim();
    } else if (section === "actions" || section === "queries") {
      margin ??= indent;
      if (indent > margin && !code.startsWith(":")) {
        if (last && word.replace(/:$/, "") === "effects") last.hasEffects = true;
        continue;
      }
      let whole = code;
      while (at < lines.length && lines[at]!.indent > 0) {
        const more = lines[at]!.code;
        if (!more.startsWith(":") && openBrackets(whole) <= 0) break;
        whole = `${whole} ${more}`;
        at++;
      }
      last = add(spec, section, new Signature(whole));
    }
  }
  return spec;
}

function add(spec: Spec, section: string, signature: Signature): Action | null {
  const { name, input, output, rows } = signature.parts();
  if (section === "queries") {
    if (!output) throw new BadSpec(`the query \`${name}\` has no output`);
    spec.queries.set(name, { name, input, output, rows });
    return null;
  }
  const first = { name, input, success: null, canFail: false, hasEffects: false };
  const action: Action = spec.actions.get(name) ?? first;
  spec.actions.set(name, action);
  if (output?.has("error")) action.canFail = true;
  else action.success = output ?? new Params();
  return action;
}

/** A recursive descent parser of `name (a: T, b?: U, ...) : (c: V)*`. */
class Signature {
  readonly #code: string;
  readonly #tokens: { kind: string; text: string }[] = [];

  constructor(code: string) {
    this.#code = code;
    TOKEN.lastIndex = 0;
    while (TOKEN.lastIndex < code.trimEnd().length) {
      const groups = TOKEN.exec(code)?.groups;
      const found = Object.entries(groups ?? {}).find(([, text]) => text !== undefined);
      if (!found) throw new BadSpec(`cannot read the signature \`${code}\``);
      this.#tokens.push({ kind: found[0], text: found[1]! });
    }
  }

  parts(): { name: string; input: Params; output: Params | null; rows: Query["rows"] } {
    const name = this.#word();
    const input = this.#params();
    let output: Params | null = null;
    let rows: Query["rows"] = "one";
    if (this.#take(":")) {
      output = this.#params();
      rows = this.#take("?") ? "atMostOne" : this.#take("*") ? "any" : "one";
    }
    if (this.#tokens.length > 0) throw this.#unexpected("the end");
    return { name, input, output, rows };
  }

  #unexpected(expected: string): BadSpec {
    const found = this.#tokens[0]?.text ?? "the end";
    return new BadSpec(`expected ${expected}, found ${found} in the signature \`${this.#code}\``);
  }

  #at(text: string): boolean {
    return this.#tokens[0]?.text === text;
  }

  #take(text: string): boolean {
    const found = this.#at(text);
    if (found) this.#tokens.shift();
    return found;
  }

  #expect(text: string): void {
    if (!this.#take(text)) throw this.#unexpected(text);
  }

  #next(kind: string): string {
    if (this.#tokens[0]?.kind !== kind) throw this.#unexpected(`a ${kind}`);
    return this.#tokens.shift()!.text;
  }

  #word(): string {
    return this.#next("word");
  }

  #params(): Params {
    const found = new Params();
    this.#expect("(");
    while (!this.#take(")")) {
      if (this.#take("...")) found.open = true;
      else found.params.push(this.#param());
      if (!this.#take(",") && !this.#at(")")) throw this.#unexpected(", or )");
    }
    return found;
  }

  #param(): Param {
    const name = this.#word();
    const optional = this.#take("?");
    this.#expect(":");
    return { name, optional, type: this.#type() };
  }

  #type(): Type {
    const literals: string[] = [];
    const types: Type[] = [];
    let isNullable = false;
    do {
      if (this.#tokens[0]?.kind === "text") literals.push(JSON.parse(this.#next("text")));
      else if (this.#take("null")) isNullable = true;
      else types.push(this.#single());
    } while (this.#take("|"));
    if (literals.length > 0) types.push({ enum: literals });
    const [type, second] = types;
    if (type === undefined || second !== undefined) throw this.#unexpected("one type");
    const hasNull = type === "any" || (typeof type === "object" && "nullable" in type);
    return isNullable && !hasNull ? { nullable: type } : type;
  }

  #single(): Type {
    if (this.#take("(")) {
      const type = this.#type();
      this.#expect(")");
      return type;
    }
    if (this.#take("{")) return { record: this.#fields() };
    const word = this.#word();
    if (word === "seq" || word === "set") {
      this.#expect("of");
      const isText = this.#tokens[0]?.kind === "text";
      const of: Type = isText ? { enum: [JSON.parse(this.#next("text"))] } : this.#single();
      return word === "seq" ? { seq: of } : { set: of };
    }
    if ((word === "String" || word === "Secret") && this.#take("(")) {
      const most = Number(this.#next("number"));
      this.#expect(")");
      return word === "String" ? { boundedString: most } : { boundedSecret: most };
    }
    return BUILT_IN.includes(word) ? (word.toLowerCase() as Type) : { id: word };
  }

  #fields(): Field[] {
    const fields: Field[] = [];
    while (!this.#take("}")) {
      const { name, optional, type } = this.#param();
      fields.push(optional ? { name, optional, type } : { name, type });
      if (!this.#take(",") && !this.#at("}")) throw this.#unexpected(", or }");
    }
    return fields;
  }
}
