/** Facts about a method from its body: numbers of rows, refusals, and writes. */

import ts from "@typescript/typescript6";
import { bare, keyOf } from "./project.js";

/** How many rows a query returns, in the notation of specs. */
export type Rows = "" | "?" | "*";

/** Facts about the body of a method. */
export interface Facts {
  rows: Rows;
  /** Whether each result has a row, which may be an error. */
  neverEmpty: boolean;
  /** Whether a result is a list. */
  isList: boolean;
  canFail: boolean;
  writes: boolean;
  /** Keys of each successful result that is an object literal. */
  keys: Set<string>[];
}

const WRITES =
  /^((insert|update|delete)(One|Many)|replaceOne|findOneAnd(Update|Replace|Delete)|bulkWrite|drop)$/;

type Count = "none" | "error" | "one" | "any";

/** Reads the bodies of the methods of a class. */
export class Bodies {
  readonly #methods = new Map<string, ts.MethodDeclaration>();

  constructor(declaration: ts.ClassDeclaration) {
    for (const member of declaration.members) {
      if (ts.isMethodDeclaration(member) && keyOf(member.name)) {
        this.#methods.set(keyOf(member.name)!, member);
      }
    }
  }

  /** The facts about a method, including the methods that it calls. */
  facts(name: string, seen = new Set<string>()): Facts {
    const facts: Facts = {
      rows: "",
      neverEmpty: false,
      isList: false,
      canFail: false,
      writes: false,
      keys: [],
    };
    const method = this.#methods.get(name);
    if (!method?.body || seen.has(name)) return facts;
    seen.add(name);
    const counts = new Set<Count>();
    const count = (node: ts.Expression): void => this.#count(node, counts, facts, method, seen);
    const visit = (node: ts.Node, isNested: boolean): void => {
      if (ts.isReturnStatement(node) && !isNested) {
        if (node.expression) count(node.expression);
        else counts.add("none");
      }
      const called = ts.isCallExpression(node) && memberOf(node.expression);
      if (called && WRITES.test(called)) facts.writes = true;
      if (called && isThis(node.expression)) {
        const other = this.facts(called, seen);
        facts.writes ||= other.writes;
      }
      const nests = isNested || ts.isFunctionLike(node);
      ts.forEachChild(node, (child) => visit(child, nests));
    };
    ts.forEachChild(method.body, (child) => visit(child, false));
    const hasNone = counts.has("none") || counts.has("error");
    facts.neverEmpty = counts.size > 0 && !counts.has("none") && !counts.has("any");
    facts.rows = counts.has("any") ? "*" : hasNone || counts.size === 0 ? "?" : "";
    return facts;
  }

  #count(
    from: ts.Expression,
    counts: Set<Count>,
    facts: Facts,
    method: ts.MethodDeclaration,
    seen: Set<string>,
  ): void {
    const node = bare(from);
    const again = (of: ts.Expression): void => this.#count(of, counts, facts, method, seen);
    if (ts.isConditionalExpression(node)) {
      again(node.whenTrue);
      again(node.whenFalse);
    } else if (ts.isArrayLiteralExpression(node)) {
      facts.isList = true;
      const rows = node.elements.filter((element) => !isErrorObject(element));
      if (rows.length < node.elements.length) facts.canFail = true;
      if (rows.length === 0) counts.add(node.elements.length > 0 ? "error" : "none");
      else counts.add(rows.length > 1 || rows.some(ts.isSpreadElement) ? "any" : "one");
      const [row] = rows;
      if (row && ts.isObjectLiteralExpression(bare(row))) facts.keys.push(keysOf(bare(row)));
    } else if (ts.isObjectLiteralExpression(node)) {
      if (isErrorObject(node)) {
        facts.canFail = true;
        counts.add("error");
      } else {
        counts.add("one");
        facts.keys.push(keysOf(node));
      }
    } else if (node.kind === ts.SyntaxKind.NullKeyword || node.getText() === "undefined") {
      counts.add("none");
    } else if (ts.isCallExpression(node) && isThis(node.expression)) {
      const other = this.facts(memberOf(node.expression)!, new Set(seen));
      facts.canFail ||= other.canFail;
      facts.isList ||= other.isList;
      facts.keys.push(...other.keys);
      if (other.rows === "*") counts.add("any");
      else counts.add("one");
      if (other.rows === "?") counts.add(other.neverEmpty ? "error" : "none");
    } else if (ts.isIdentifier(node)) {
      const value = localValue(method, node.text);
      if (value && value !== node) again(value);
      else counts.add("any");
    } else if (ts.isCallExpression(node) && /^findOne/.test(memberOf(node.expression) ?? "")) {
      counts.add("none").add("one");
    } else {
      if (ts.isCallExpression(node)) {
        facts.isList = true;
        const mapped = node.arguments[0] && rowOf(node.arguments[0]);
        if (mapped) facts.keys.push(keysOf(mapped));
      }
      counts.add("any");
    }
  }
}

/** The object that the function of a `map` returns. */
function rowOf(node: ts.Node): ts.Expression | null {
  if (!ts.isArrowFunction(node) || ts.isBlock(node.body)) return null;
  const body = bare(node.body);
  return ts.isObjectLiteralExpression(body) ? body : null;
}

/** The initial value of a constant of a method; `null` if it is assigned again. */
function localValue(method: ts.MethodDeclaration, name: string): ts.Expression | null {
  let found: ts.Expression | null = null;
  let isAssigned = false;
  const visit = (node: ts.Node): void => {
    if (ts.isVariableDeclaration(node) && ts.isIdentifier(node.name) && node.name.text === name) {
      found = node.initializer ?? null;
      isAssigned ||= (node.parent.flags & ts.NodeFlags.Const) === 0;
    }
    ts.forEachChild(node, visit);
  };
  visit(method);
  if (isAssigned || found === null) return null;
  const value = bare(found);
  const isPushed = ts.isArrayLiteralExpression(value) && value.elements.length === 0;
  return isPushed ? null : value;
}

/** Name of a called member, such as `findOne` of `this.users.findOne`. */
export function memberOf(node: ts.Expression): string | null {
  return ts.isPropertyAccessExpression(node) ? node.name.text : null;
}

/** Reports whether a member is of `this` itself. */
function isThis(node: ts.Expression): boolean {
  return ts.isPropertyAccessExpression(node) && node.expression.kind === ts.SyntaxKind.ThisKeyword;
}

function isErrorObject(node: ts.Expression): boolean {
  const of = bare(node);
  return ts.isObjectLiteralExpression(of) && keysOf(of).has("error");
}

function keysOf(node: ts.Expression): Set<string> {
  if (!ts.isObjectLiteralExpression(node)) return new Set();
  const keys = node.properties.map((of) => of.name && keyOf(of.name as ts.PropertyName));
  return new Set(keys.filter((of) => typeof of === "string"));
}
