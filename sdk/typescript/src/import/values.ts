/** Values of the symbolic execution of a `where` function. */

import ts from "@typescript/typescript6";
import { ByHand, type Project } from "./project.js";
import type { Concept } from "./concepts.js";
import { LEVELS, type Arg, type Expr, type Names, type QueryStep, type Step } from "./rule.js";
import { isPlain, type Type } from "./types.js";

/** A symbol of the engine: a variable of the rule. */
export interface SymbolOf {
  /** Name of the local constant. */
  id: string;
  /** Name in `$vars`; `collectAs` uses it as a key. */
  description: string;
}

/** Frames after some steps, with the variables of the symbols. */
export class Frames {
  constructor(
    readonly steps: readonly Step[],
    readonly names: ReadonlyMap<string, string>,
    readonly types: ReadonlyMap<string, Type> = new Map(),
  ) {}

  /** The frames after one more step. */
  then(step: Step): Frames {
    return new Frames([...this.steps, step], this.names, this.types);
  }

  /** The frames in which a symbol has another variable. */
  bind(id: string, name: string, type?: Type): Frames {
    const types = new Map(this.types);
    if (type) types.set(name, type);
    else types.delete(name);
    return new Frames(this.steps, new Map([...this.names, [id, name]]), types);
  }

  /** The symbol that a variable belongs to. */
  symbolOf(name: string): string | undefined {
    return [...this.names].find(([, of]) => of === name)?.[0];
  }

  /** Reports whether the steps of `other` begin with these steps. */
  isPrefixOf(other: Frames): boolean {
    return this.steps.every((step, index) => other.steps[index] === step);
  }
}

/** A value during the symbolic execution. */
export type Value =
  | { is: "frames"; frames: Frames }
  /** One frame: `$`, or `frames[0]`. */
  | { is: "frame"; frames: Frames }
  | { is: "symbol"; symbol: SymbolOf }
  | { is: "expr"; expr: Expr; frames?: Frames | undefined }
  /** The result of a query that the rule calls itself. */
  | { is: "rows"; frames: Frames; row: Row }
  | { is: "row"; frames: Frames; row: Row }
  /** `frames.map(($) => $[x])`: a value of each frame. */
  | { is: "column"; frames: Frames; fields: Arg[] }
  /** `new Frames()` or `[]`. */
  | { is: "nothing" }
  | { is: "emptiness"; frames: Frames; isEmpty: boolean }
  | { is: "function"; node: ts.FunctionLikeDeclaration; env: Env }
  | {
      is: "object";
      members: Map<string, Value>;
      spread: Frames | null;
      assigned: [SymbolOf, Value][];
    };

/** A row of a direct query: its outputs become variables when they are read. */
export interface Row {
  step: QueryStep;
  outputs: ReadonlyMap<string, Type>;
  /** Whether the method returns a list. */
  isList: boolean;
}

/** Where names are looked up. */
export interface Env {
  readonly file: ts.SourceFile;
  readonly locals: Map<string, Value>;
  readonly rule: RuleContext;
}

/** What the translation of one rule shares. */
export interface RuleContext {
  readonly project: Project;
  readonly concepts: ReadonlyMap<string, Concept>;
  readonly names: Names;
  readonly notes: string[];
  /** Lines of the comment above the rule. */
  readonly comment: string[];
  /** Empty results that the source replaces by a value, by symbol. */
  readonly defaults: Map<string, { after: Frames; node: ts.Node }>;
  /** Symbols that a collection covers; the list replaces their variables. */
  readonly covered: Set<string>;
  /** Frames that must not be empty. */
  readonly guards: Frames[];
  /** The frames of `when`. */
  start: Frames;
  /** Whether collections answer an empty list. */
  readonly answers: boolean;
}

/** An expression that is a variable, a literal or in brackets. */
export function primary(text: string, type?: Type): Expr {
  return { text, level: LEVELS.primary, type };
}

/** Text of an expression as an operand of an operator of a level. */
export function operand(expr: Expr, level: number): string {
  return expr.level >= level ? expr.text : `(${expr.text})`;
}

/** The expression of a value. */
export function exprOf(value: Value, node: ts.Node, frames: Frames | null = null): Expr {
  switch (value.is) {
    case "expr":
      return value.expr;
    case "symbol": {
      const name = frames?.names.get(value.symbol.id);
      if (name === undefined)
        throw new ByHand(`the symbol \`${value.symbol.id}\` as a value`, node);
      return primary(name, frames!.types.get(name));
    }
    case "nothing":
      return primary("[]");
    case "object": {
      if (value.spread || value.assigned.length > 0) break;
      const members = [...value.members].map(
        ([key, of]) => `${key}: ${exprOf(of, node, frames).text}`,
      );
      return primary(`{${members.join(", ")}}`);
    }
    default:
  }
  throw new ByHand(`a value of the kind \`${value.is}\` as an argument`, node);
}

/** The longer of two pipelines, one of which continues the other. */
export function longer(a: Frames | null | undefined, b: Frames | null | undefined): Frames | null {
  if (!a || !b) return a ?? b ?? null;
  return a.steps.length >= b.steps.length ? a : b;
}

/** The condition that a value counts as true, as JavaScript decides it. */
export function truthy(expr: Expr, rule: RuleContext): Expr {
  const { type } = expr;
  if (expr.level < LEVELS.or_else || ["true", "false"].includes(expr.text)) return expr;
  if (isPlain(type, "Boolean")) return expr;
  const subject = operand(expr, LEVELS.or_else);
  const isObject =
    type?.is === "record" || type?.is === "list" || type?.is === "id" || type?.is === "enum";
  if (isPlain(type, "String")) {
    return { text: `${subject} != null and ${subject} != ""`, level: LEVELS.and };
  }
  if (isPlain(type, "Number")) {
    return { text: `${subject} != null and ${subject} != 0`, level: LEVELS.and };
  }
  if (!isObject) {
    const note = `\`${expr.text}\` counts as true if it is not null`;
    if (!rule.notes.includes(note)) rule.notes.push(note);
  }
  return { text: `${subject} != null`, level: LEVELS.compare };
}

/** The opposite of a condition. */
export function negated(expr: Expr): Expr {
  const simple = / (==|!=) /.exec(expr.text);
  if (expr.level === LEVELS.compare && simple && expr.text.split(/ (?:==|!=) /).length === 2) {
    const other = simple[1] === "==" ? " != " : " == ";
    return { text: expr.text.replace(simple[0], other), level: LEVELS.compare };
  }
  return { text: `not ${operand(expr, LEVELS.not)}`, level: LEVELS.not };
}
