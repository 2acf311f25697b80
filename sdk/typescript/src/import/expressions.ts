/** Symbolic execution of the expressions of a `where` function. */

import ts from "@typescript/typescript6";
import { asQuery, queryStep } from "./concepts.js";
import { bare, Broken, ByHand, excerpt, keyOf } from "./project.js";
import { LEVELS, type Arg, type Expr, type Step } from "./rule.js";
import { construct, method } from "./frames.js";
import { runFunction } from "./statements.js";
import { isPlain, type Type } from "./types.js";
import {
  exprOf,
  longer,
  negated,
  operand,
  primary,
  truthy,
  type Env,
  type Frames,
  type SymbolOf,
  type Value,
} from "./values.js";

const COMPARE: Partial<Record<ts.SyntaxKind, string>> = {
  [ts.SyntaxKind.EqualsEqualsEqualsToken]: "==",
  [ts.SyntaxKind.EqualsEqualsToken]: "==",
  [ts.SyntaxKind.ExclamationEqualsEqualsToken]: "!=",
  [ts.SyntaxKind.ExclamationEqualsToken]: "!=",
  [ts.SyntaxKind.LessThanToken]: "<",
  [ts.SyntaxKind.LessThanEqualsToken]: "<=",
  [ts.SyntaxKind.GreaterThanToken]: ">",
  [ts.SyntaxKind.GreaterThanEqualsToken]: ">=",
};

/** Evaluates an expression. Throws {@link ByHand} or {@link Broken}. */
export function evaluate(from: ts.Expression, env: Env): Value {
  const node = bare(from);
  if (ts.isIdentifier(node)) return identifier(node, env);
  if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) {
    return exprValue(primary(JSON.stringify(node.text), { is: "plain", name: "String" }));
  }
  if (ts.isNumericLiteral(node))
    return exprValue(primary(node.text, { is: "plain", name: "Number" }));
  if (node.kind === ts.SyntaxKind.TrueKeyword) return exprValue(primary("true"));
  if (node.kind === ts.SyntaxKind.FalseKeyword) return exprValue(primary("false"));
  if (node.kind === ts.SyntaxKind.NullKeyword) return exprValue(primary("null"));
  if (ts.isTemplateExpression(node)) return template(node, env);
  if (ts.isPrefixUnaryExpression(node)) return unary(node, env);
  if (ts.isBinaryExpression(node)) return binary(node, env);
  if (ts.isConditionalExpression(node)) return conditional(node, env);
  if (ts.isElementAccessExpression(node)) return element(node, env);
  if (ts.isPropertyAccessExpression(node)) return property(node, env);
  if (ts.isObjectLiteralExpression(node)) return object(node, env);
  if (ts.isArrayLiteralExpression(node)) return list(node, env);
  if (ts.isNewExpression(node)) return construct(node, env);
  if (ts.isCallExpression(node)) return call(node, env);
  if (ts.isArrowFunction(node) || ts.isFunctionExpression(node))
    return { is: "function", node, env };
  throw new ByHand(`the expression \`${excerpt(node)}\``, node);
}

/** The value of an expression. */
export function exprValue(of: Expr, frames?: Frames | null): Value {
  return { is: "expr", expr: of, frames: frames ?? undefined };
}

function identifier(node: ts.Identifier, env: Env): Value {
  const local = env.locals.get(node.text);
  if (local) return local;
  if (node.text === "undefined") return exprValue(primary("null"));
  const found = env.rule.project.declaration(env.file, node.text);
  if (found && ts.isVariableDeclaration(found) && found.initializer) {
    return evaluate(found.initializer, { ...env, file: found.getSourceFile(), locals: new Map() });
  }
  if (found && ts.isFunctionDeclaration(found)) {
    const globals = { ...env, file: found.getSourceFile(), locals: new Map() };
    return { is: "function", node: found, env: globals };
  }
  const fromVars = symbolOfFile(env, node.text);
  if (fromVars) return { is: "symbol", symbol: fromVars };
  throw new ByHand(`\`${node.text}\` is not known here`, node);
}

/** A symbol that a file takes out of `$vars` at its top level. */
function symbolOfFile(env: Env, name: string): SymbolOf | null {
  for (const statement of env.file.statements) {
    if (!ts.isVariableStatement(statement)) continue;
    for (const { name: pattern, initializer } of statement.declarationList.declarations) {
      if (!initializer || bare(initializer).getText() !== "$vars") continue;
      if (!ts.isObjectBindingPattern(pattern)) continue;
      const found = pattern.elements.find((of) => keyOf(of.name) === name);
      if (found) return { id: name, description: (found.propertyName ?? found.name).getText() };
    }
  }
  return null;
}

/** Evaluates to an expression of rules, and the frames that it depends on. */
export function evaluateExpr(node: ts.Expression, env: Env): { expr: Expr; frames: Frames | null } {
  const value = evaluate(node, env);
  return { expr: exprOf(value, node), frames: (value.is === "expr" && value.frames) || null };
}

function template(node: ts.TemplateExpression, env: Env): Value {
  const parts: string[] = [];
  let frames: Frames | null = null;
  if (node.head.text !== "") parts.push(JSON.stringify(node.head.text));
  for (const span of node.templateSpans) {
    const part = evaluateExpr(span.expression, env);
    frames = longer(frames, part.frames);
    parts.push(operand(part.expr, LEVELS.product));
    if (span.literal.text !== "") parts.push(JSON.stringify(span.literal.text));
  }
  const type: Type = { is: "plain", name: "String" };
  return exprValue({ text: parts.join(" + "), level: LEVELS.sum, type }, frames);
}

function unary(node: ts.PrefixUnaryExpression, env: Env): Value {
  const value = evaluate(node.operand, env);
  if (node.operator === ts.SyntaxKind.ExclamationToken) {
    if (value.is === "emptiness") return { ...value, isEmpty: !value.isEmpty };
    if (value.is === "row") return { is: "emptiness", frames: value.frames, isEmpty: true };
    if (value.is === "rows")
      return { is: "emptiness", frames: value.frames, isEmpty: value.row.isList };
    const { expr: of, frames } = evaluateExpr(node.operand, env);
    return exprValue(negated(truthy(of, env.rule)), frames);
  }
  if (node.operator === ts.SyntaxKind.MinusToken && ts.isNumericLiteral(node.operand)) {
    return exprValue(primary(`-${node.operand.text}`));
  }
  throw new ByHand(`the operator of \`${excerpt(node)}\``, node);
}

function binary(node: ts.BinaryExpression, env: Env): Value {
  const kind = node.operatorToken.kind;
  const emptiness = comparedLength(node, env);
  if (emptiness) return emptiness;
  if (kind === ts.SyntaxKind.InKeyword) {
    // A result with the key `error` is no row, and other keys tell that there is one.
    const right = evaluate(node.right, env);
    const key = bare(node.left);
    if ((right.is === "rows" || right.is === "row") && ts.isStringLiteral(key)) {
      return { is: "emptiness", frames: right.frames, isEmpty: key.text === "error" };
    }
  }
  const [left, right] = [evaluate(node.left, env), evaluate(node.right, env)];
  const both = [left, right].filter((of) => of.is === "emptiness");
  if (both.length > 0) {
    const [one] = both;
    const isJoined =
      kind === ts.SyntaxKind.BarBarToken || kind === ts.SyntaxKind.AmpersandAmpersandToken;
    // `!rows || rows.length === 0`
    if (isJoined && both.length === 2) return right;
    if (isJoined && one && (left.is === "rows" || right.is === "rows")) return one;
    throw new ByHand(`the condition \`${excerpt(node)}\``, node);
  }
  const frames = longer(
    left.is === "expr" ? left.frames : null,
    right.is === "expr" ? right.frames : null,
  );
  const [a, b] = [exprOf(left, node.left), exprOf(right, node.right)];
  const make = (text: string, level: number, type?: Type): Value =>
    exprValue({ text, level, type }, frames);
  const compare = COMPARE[kind];
  if (compare) {
    return make(
      `${operand(a, LEVELS.or_else)} ${compare} ${operand(b, LEVELS.or_else)}`,
      LEVELS.compare,
    );
  }
  switch (kind) {
    case ts.SyntaxKind.AmpersandAmpersandToken:
    case ts.SyntaxKind.BarBarToken: {
      const isAnd = kind === ts.SyntaxKind.AmpersandAmpersandToken;
      const isDefault = !isAnd && b.level >= LEVELS.or_else && !isCondition(node);
      if (isDefault)
        return make(`${operand(a, LEVELS.or_else)} ?? ${operand(b, LEVELS.sum)}`, LEVELS.or_else);
      const level = isAnd ? LEVELS.and : LEVELS.or;
      const of = (part: Expr): string => operand(truthy(part, env.rule), level);
      return make(`${of(a)} ${isAnd ? "and" : "or"} ${of(b)}`, level);
    }
    case ts.SyntaxKind.QuestionQuestionToken:
      return make(
        `${operand(a, LEVELS.or_else)} ?? ${operand(b, LEVELS.sum)}`,
        LEVELS.or_else,
        b.type,
      );
    case ts.SyntaxKind.PlusToken:
    case ts.SyntaxKind.MinusToken: {
      const sign = kind === ts.SyntaxKind.PlusToken ? "+" : "-";
      return make(
        `${operand(a, LEVELS.sum)} ${sign} ${operand(b, LEVELS.product)}`,
        LEVELS.sum,
        a.type,
      );
    }
    case ts.SyntaxKind.AsteriskToken:
    case ts.SyntaxKind.SlashToken: {
      const sign = kind === ts.SyntaxKind.AsteriskToken ? "*" : "/";
      return make(
        `${operand(a, LEVELS.product)} ${sign} ${operand(b, LEVELS.primary)}`,
        LEVELS.product,
      );
    }
    default:
      throw new ByHand(`the operator of \`${excerpt(node)}\``, node);
  }
}

/** Reports whether a value is used as a condition. */
function isCondition(node: ts.Node): boolean {
  const { parent } = node;
  if (ts.isParenthesizedExpression(parent) || ts.isPrefixUnaryExpression(parent))
    return isCondition(parent);
  if (ts.isIfStatement(parent)) return true;
  if (ts.isBinaryExpression(parent)) {
    const kind = parent.operatorToken.kind;
    return kind === ts.SyntaxKind.AmpersandAmpersandToken || kind === ts.SyntaxKind.BarBarToken;
  }
  const isBody = ts.isArrowFunction(parent) || ts.isReturnStatement(parent);
  return isBody && /\.(filter|some|every|find)\s*\($/.test(callerOf(parent));
}

/** Text in front of the function that contains a node, as far as it calls it. */
function callerOf(node: ts.Node): string {
  let at: ts.Node = node;
  while (!ts.isFunctionLike(at) && at.parent) at = at.parent;
  const call = at.parent;
  return call && ts.isCallExpression(call) ? `${call.expression.getText()}(` : "";
}

/** `x.length === 0` and its variants. */
function comparedLength(node: ts.BinaryExpression, env: Env): Value | null {
  const left = bare(node.left);
  if (!ts.isPropertyAccessExpression(left) || left.name.text !== "length") return null;
  const number = Number(bare(node.right).getText());
  const sign = COMPARE[node.operatorToken.kind];
  if (!sign || !Number.isInteger(number)) return null;
  const isEmpty =
    (sign === "==" && number === 0) ||
    (sign === "<" && number === 1) ||
    (sign === "<=" && number === 0);
  const isFilled =
    (sign === "!=" && number === 0) ||
    (sign === ">" && number === 0) ||
    (sign === ">=" && number === 1);
  if (!isEmpty && !isFilled)
    throw new ByHand(`the number of elements in \`${excerpt(node)}\``, node);
  const value = evaluate(left.expression, env);
  if (value.is === "frames" || value.is === "rows" || value.is === "column") {
    return { is: "emptiness", frames: value.frames, isEmpty };
  }
  const of = exprOf(value, left);
  const nothing = isPlain(of.type, "String") ? '""' : "[]";
  const text = `${operand(of, LEVELS.or_else)} ${isEmpty ? "==" : "!="} ${nothing}`;
  return exprValue({ text, level: LEVELS.compare }, value.is === "expr" ? value.frames : null);
}

/** `x ? x : y` and `x !== undefined ? x : y` are `x ?? y`. */
function conditional(node: ts.ConditionalExpression, env: Env): Value {
  const [condition, a, b] = [node.condition, node.whenTrue, node.whenFalse].map((of) =>
    bare(of).getText(),
  );
  const isOwn =
    condition === a ||
    [" !== undefined", " !== null", " != null"].some((of) => condition === a + of);
  if (!isOwn)
    throw new ByHand(`the condition \`${excerpt(node)}\` (\`${condition}\`, \`${b}\`)`, node);
  const [value, other] = [evaluateExpr(node.whenTrue, env), evaluateExpr(node.whenFalse, env)];
  const text = `${operand(value.expr, LEVELS.or_else)} ?? ${operand(other.expr, LEVELS.sum)}`;
  return exprValue({ text, level: LEVELS.or_else }, longer(value.frames, other.frames));
}

function element(node: ts.ElementAccessExpression, env: Env): Value {
  const value = evaluate(node.expression, env);
  const key = bare(node.argumentExpression);
  if (value.is === "frames" && key.getText() === "0") return { is: "frame", frames: value.frames };
  if (value.is === "rows" && key.getText() === "0") {
    noteFirst(value.row.step, env);
    return { is: "row", frames: value.frames, row: value.row };
  }
  if (value.is === "frame") {
    const symbol = evaluate(node.argumentExpression, env);
    if (symbol.is !== "symbol") throw new ByHand(`the key \`${key.getText()}\` of a frame`, node);
    const name = value.frames.names.get(symbol.symbol.id);
    if (name === undefined) {
      throw new Broken(`\`${symbol.symbol.id}\` is never bound`, node);
    }
    return exprValue(primary(name, value.frames.types.get(name)), value.frames);
  }
  if (ts.isStringLiteral(key) && value.is === "expr") return field(value, key.text, node);
  throw new ByHand(`the element \`${excerpt(node)}\``, node);
}

function noteFirst(step: Step, env: Env): void {
  if (step.step !== "query" || !step.isMany) return;
  const note = `all rows of ${step.concept}.${step.query} are used, not only the first`;
  if (!env.rule.notes.includes(note)) env.rule.notes.push(note);
}

function property(node: ts.PropertyAccessExpression, env: Env): Value {
  const vars = bare(node.expression).getText();
  if (vars === "$vars")
    return { is: "symbol", symbol: { id: node.name.text, description: node.name.text } };
  const value = evaluate(node.expression, env);
  const name = node.name.text;
  if (value.is === "row" || (value.is === "rows" && !value.row.isList))
    return output(value, name, node, env);
  if (value.is === "object" && value.members.has(name)) return value.members.get(name)!;
  if (value.is === "expr") return field(value, name, node);
  throw new ByHand(`the property \`${excerpt(node)}\``, node);
}

/** An output of a direct query; it becomes a variable of its step. */
export function output(
  value: Extract<Value, { is: "row" | "rows" }>,
  key: string,
  node: ts.Node,
  env: Env,
): Value {
  const { step, outputs } = value.row;
  if (!outputs.has(key))
    throw new Broken(`${step.concept}.${step.query} returns no \`${key}\``, node);
  let known = step.output.find((of) => of.key === key);
  if (!known) {
    known = { key, value: env.rule.names.fresh(key) };
    step.output.push(known);
  }
  return exprValue(primary(known.value, outputs.get(key)), value.frames);
}

function field(value: Extract<Value, { is: "expr" }>, name: string, node: ts.Node): Value {
  if (name === "length") throw new ByHand(`the length in \`${excerpt(node)}\``, node);
  const { type } = value.expr;
  const record = type?.is === "nullable" ? type.of : type;
  const found = record?.is === "record" ? record.fields.find((of) => of.name === name) : undefined;
  const text = `${operand(value.expr, LEVELS.primary)}.${name}`;
  return exprValue(primary(text, found?.type), value.frames);
}

function object(node: ts.ObjectLiteralExpression, env: Env): Value {
  const made: Extract<Value, { is: "object" }> = {
    is: "object",
    members: new Map(),
    spread: null,
    assigned: [],
  };
  for (const member of node.properties) {
    if (ts.isSpreadAssignment(member)) {
      const value = evaluate(member.expression, env);
      if (value.is !== "frame") throw new ByHand(`the spread \`${excerpt(member)}\``, member);
      made.spread = value.frames;
    } else if (ts.isShorthandPropertyAssignment(member)) {
      made.members.set(member.name.text, identifier(member.name, env));
    } else if (ts.isPropertyAssignment(member)) {
      const value = evaluate(member.initializer, env);
      if (ts.isComputedPropertyName(member.name)) {
        const key = evaluate(member.name.expression, env);
        if (key.is === "symbol") made.assigned.push([key.symbol, value]);
        else made.members.set(exprOf(key, member).text.replaceAll('"', ""), value);
      } else made.members.set(member.name.getText().replaceAll(/["']/g, ""), value);
    } else throw new ByHand(`the member \`${excerpt(member)}\``, member);
  }
  return made;
}

function list(node: ts.ArrayLiteralExpression, env: Env): Value {
  if (node.elements.length === 0) return { is: "nothing" };
  if (node.elements.some(ts.isSpreadElement))
    throw new ByHand(`the list \`${excerpt(node)}\``, node);
  const parts = node.elements.map((of) => evaluateExpr(of, env));
  const frames = parts.reduce<Frames | null>((found, of) => longer(found, of.frames), null);
  return exprValue(primary(`[${parts.map(({ expr: of }) => of.text).join(", ")}]`), frames);
}

function call(node: ts.CallExpression, env: Env): Value {
  const callee = bare(node.expression);
  if (ts.isPropertyAccessExpression(callee)) {
    const owner = bare(callee.expression);
    const concept =
      ts.isIdentifier(owner) && !env.locals.has(owner.text) && env.rule.concepts.get(owner.text);
    if (concept) return directQuery(node, owner.text, callee.name.text, env);
    if (owner.getText() === "Promise" && callee.name.text === "all") {
      return evaluate(node.arguments[0]!, env);
    }
    if (callee.getText() === "Array.isArray" && node.arguments[0]) {
      const value = evaluate(node.arguments[0], env);
      if (value.is === "rows") return { is: "emptiness", frames: value.frames, isEmpty: false };
    }
    const value = evaluate(callee.expression, env);
    return method(value, callee.name.text, node, env);
  }
  if (ts.isIdentifier(callee)) {
    const [argument] = node.arguments;
    if (["String", "Boolean", "Number"].includes(callee.text) && argument) {
      const { expr: of, frames } = evaluateExpr(argument, env);
      if (callee.text === "Boolean") return exprValue(truthy(of, env.rule), frames);
      if (callee.text === "Number" && !isPlain(of.type, "Number")) {
        throw new ByHand(`the conversion \`${excerpt(node)}\``, node);
      }
      return exprValue(of, frames);
    }
    const value = identifier(callee, env);
    if (value.is === "function") {
      return runFunction(
        value,
        node.arguments.map((of) => evaluate(of, env)),
        node,
      );
    }
  }
  throw new ByHand(`the call \`${excerpt(node)}\``, node);
}

/** A query that the rule calls itself. */
function directQuery(node: ts.CallExpression, concept: string, name: string, env: Env): Value {
  const query = queryOf(concept, name, node, env);
  const [argument] = node.arguments;
  const input: Arg[] = [];
  let frames: Frames = env.rule.start;
  if (argument) {
    const value = evaluate(argument, env);
    if (value.is !== "object") throw new ByHand(`the input \`${excerpt(argument)}\``, argument);
    for (const [key, of] of value.members) {
      if (of.is === "expr") frames = longer(of.frames, frames)!;
      input.push({ key, value: exprOf(of, argument, frames).text });
    }
  }
  const step = queryStep(concept, query, input, []);
  const outputs = new Map(query.output.map((of) => [of.name, of.type]));
  return { is: "rows", frames: frames.then(step), row: { step, outputs, isList: query.isList } };
}

/** The query of a name, or of an action that is used as one. */
export function queryOf(
  concept: string,
  name: string,
  node: ts.Node,
  env: Env,
): NonNullable<ReturnType<typeof asQuery>> {
  const found = env.rule.concepts.get(concept);
  if (!found) throw new Broken(`there is no concept ${concept}`, node);
  const query = name.startsWith("_") ? found.queries.get(name) : asQuery(found, name);
  if (query) return query;
  const omitted = found.omitted.find((of) => of.name === name);
  if (omitted) throw new ByHand(`${concept}.${name} is left out: ${omitted.reason}`, node);
  if (found.actions.has(name))
    throw new ByHand(`the action ${concept}.${name} writes, and is used as a query`, node);
  throw new Broken(`${concept} has no \`${name}\``, node);
}
