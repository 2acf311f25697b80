/** Symbolic execution of frames, and of the lists that they contain. */

import ts from "@typescript/typescript6";
import { queryStep } from "./concepts.js";
import { evaluate, evaluateExpr, exprValue as expr, queryOf } from "./expressions.js";
import { bare, Broken, ByHand, excerpt } from "./project.js";
import { LEVELS, type Arg } from "./rule.js";
import { runFunction } from "./statements.js";
import {
  exprOf,
  longer,
  operand,
  primary,
  truthy,
  type Env,
  type Frames,
  type SymbolOf,
  type Value,
} from "./values.js";

/** `new Frames(…)`. */
export function construct(node: ts.NewExpression, env: Env): Value {
  if (node.expression.getText() !== "Frames") throw new ByHand(`\`${excerpt(node)}\``, node);
  const [argument, second] = node.arguments ?? [];
  if (!argument) return { is: "nothing" };
  if (second) throw new ByHand("`new Frames` with several frames", node);
  const value = evaluate(ts.isSpreadElement(argument) ? argument.expression : argument, env);
  return framesOf(value, node, env);
}

/** The frames that a value is, as an element or list of them. */
export function framesOf(value: Value, node: ts.Node, env: Env): Value {
  if (value.is === "frames" || value.is === "nothing") return value;
  if (value.is === "frame") return { is: "frames", frames: value.frames };
  if (value.is !== "object") throw new ByHand(`frames from \`${excerpt(node)}\``, node);
  let frames = value.spread ?? env.rule.start;
  for (const [, of] of value.assigned) {
    if (of.is === "expr" || of.is === "column") frames = longer(frames, of.frames)!;
  }
  for (const [symbol, of] of value.assigned) frames = assign(frames, symbol, of, node, env);
  return { is: "frames", frames };
}

/** The frames in which a symbol has a value. */
export function assign(
  frames: Frames,
  symbol: SymbolOf,
  value: Value,
  node: ts.Node,
  env: Env,
): Frames {
  const { names } = env.rule;
  if (value.is === "column") {
    const as = names.fresh(symbol.id);
    return frames.then({ step: "collect", fields: value.fields, as }).bind(symbol.id, as);
  }
  const of = exprOf(value, node, frames);
  if (/^[a-z]\w*$/.test(of.text) && !["true", "false", "null"].includes(of.text)) {
    return frames.bind(symbol.id, of.text, of.type);
  }
  const name = names.fresh(symbol.id);
  return frames.then({ step: "let", name, expr: of }).bind(symbol.id, name, of.type);
}

/** A method of frames, rows or lists. */
export function method(value: Value, name: string, node: ts.CallExpression, env: Env): Value {
  if (value.is === "frames") return framesMethod(value.frames, name, node, env);
  if (value.is === "rows" && ["map", "flatMap"].includes(name)) {
    const row: Value = { is: "row", frames: value.frames, row: value.row };
    const result = runFunction(callbackOf(node, env), [row], node);
    if (result.is === "object" && result.spread) return framesOf(result, node, env);
    return column(value.frames, result, node, env);
  }
  if (value.is === "expr") return listMethod(value, name, node, env);
  if (value.is === "column" && name === "filter" && node.arguments[0]?.getText() === "Boolean")
    return value;
  throw new ByHand(`the call \`${excerpt(node)}\``, node);
}

function callbackOf(node: ts.CallExpression, env: Env): Extract<Value, { is: "function" }> {
  const [argument] = node.arguments;
  const value = argument && evaluate(argument, env);
  if (value?.is !== "function") throw new ByHand(`the argument of \`${excerpt(node)}\``, node);
  return value;
}

function framesMethod(frames: Frames, name: string, node: ts.CallExpression, env: Env): Value {
  switch (name) {
    case "query":
    case "queryAsync":
      return { is: "frames", frames: queried(frames, node, env) };
    case "filter": {
      const value = runFunction(callbackOf(node, env), [{ is: "frame", frames }], node);
      const after = (value.is === "expr" && value.frames && longer(value.frames, frames)) || frames;
      const condition = truthy(exprOf(value, node, frames), env.rule);
      return {
        is: "frames",
        frames:
          condition.text === "true" ? after : after.then({ step: "condition", expr: condition }),
      };
    }
    case "map":
    case "flatMap": {
      const value = runFunction(callbackOf(node, env), [{ is: "frame", frames }], node);
      if (value.is === "object" && (value.spread || value.assigned.length > 0)) {
        return framesOf({ ...value, spread: longer(value.spread, frames) }, node, env);
      }
      if (value.is === "frame" || value.is === "frames")
        return { is: "frames", frames: value.frames };
      return column(frames, value, node, env);
    }
    case "collectAs":
      return { is: "frames", frames: collected(frames, node, env) };
    case "slice":
      if (node.arguments.length === 0) return { is: "frames", frames };
      break;
    default:
  }
  throw new ByHand(`\`${name}\` of frames`, node);
}

/** The values of all frames, as a list. */
function column(frames: Frames, value: Value, node: ts.Node, env: Env): Value {
  let after = frames;
  const variable = (of: Value, key: string): string => {
    const { text } = exprOf(of, node, after);
    if (/^[a-z]\w*$/.test(text)) return text;
    const name = env.rule.names.fresh(key || "item");
    after = after.then({ step: "let", name, expr: exprOf(of, node, after) });
    return name;
  };
  const fields: Arg[] =
    value.is === "object"
      ? [...value.members].map(([key, of]) => ({ key, value: variable(of, key) }))
      : [{ key: "", value: variable(value, "") }];
  return { is: "column", frames: after, fields };
}

/** `frames.query(Concept._query, { in }, { out })`. */
function queried(from: Frames, node: ts.CallExpression, env: Env): Frames {
  const [target, given, taken] = node.arguments.map(bare);
  if (!target || !ts.isPropertyAccessExpression(target)) {
    throw new ByHand(`the query of \`${excerpt(node)}\``, node);
  }
  const concept = target.expression.getText();
  const query = queryOf(concept, target.name.text, target, env);
  const input: Arg[] = [];
  let frames = from;
  for (const [key, value] of members(given, env)) {
    if (value.is === "symbol" && !frames.names.has(value.symbol.id)) {
      throw new Broken(`\`${value.symbol.id}\` is never bound`, given!);
    }
    if (!query.input.some((of) => of.name === key)) {
      throw new Broken(`${concept}.${query.name} takes no \`${key}\``, given!);
    }
    input.push({ key, value: exprOf(value, node, frames).text });
  }
  const missing = query.input.find(
    (of) => !of.optional && !input.some(({ key }) => key === of.name),
  );
  if (missing) throw new Broken(`${concept}.${query.name} needs \`${missing.name}\``, target);
  const output: Arg[] = [];
  let after = frames;
  for (const [key, value] of members(taken, env)) {
    if (value.is !== "symbol") throw new ByHand(`the output \`${key}\` of a query`, taken!);
    const found = query.output.find((of) => of.name === key);
    if (!found) throw new Broken(`${concept}.${query.name} returns no \`${key}\``, taken!);
    const name = env.rule.names.fresh(value.symbol.id);
    output.push({ key, value: name });
    after = after.bind(value.symbol.id, name, found.type);
  }
  return after.then(queryStep(concept, query, input, output));
}

/** The members of an object without a spread; none if there is no node. */
export function members(node: ts.Expression | undefined, env: Env): [string, Value][] {
  if (!node) return [];
  const value = evaluate(node, env);
  if (value.is !== "object" || value.spread)
    throw new ByHand(`the keys \`${excerpt(node)}\``, node);
  return [...value.members];
}

/** `frames.collectAs([a, b], results)`. */
function collected(frames: Frames, node: ts.CallExpression, env: Env): Frames {
  const [symbols, target] = node.arguments.map(bare);
  const as = target && evaluate(target, env);
  if (!symbols || !ts.isArrayLiteralExpression(symbols) || as?.is !== "symbol") {
    throw new ByHand(`the collection \`${excerpt(node)}\``, node);
  }
  const fields = symbols.elements.map((of): Arg => {
    const value = evaluate(of, env);
    if (value.is !== "symbol") throw new ByHand(`the collection \`${excerpt(node)}\``, node);
    const name = frames.names.get(value.symbol.id);
    if (name === undefined) throw new Broken(`\`${value.symbol.id}\` is never bound`, of);
    return { key: value.symbol.description, value: name };
  });
  const name = env.rule.names.fresh(as.symbol.id);
  return frames.then({ step: "collect", fields, as: name }).bind(as.symbol.id, name);
}

/** Methods of a list that a frame contains. */
function listMethod(
  value: Extract<Value, { is: "expr" }>,
  name: string,
  node: ts.CallExpression,
  env: Env,
): Value {
  const [argument] = node.arguments;
  if (name === "includes" && argument) {
    const item = evaluateExpr(argument, env);
    const text = `${operand(item.expr, LEVELS.or_else)} in ${operand(value.expr, LEVELS.or_else)}`;
    return expr({ text, level: LEVELS.compare }, longer(value.frames, item.frames));
  }
  if (name === "toString") return value;
  if (["some", "map", "flatMap"].includes(name)) {
    const item = env.rule.names.fresh("item");
    const type = value.expr.type?.is === "list" ? value.expr.type.of : undefined;
    const base = value.frames ?? env.rule.start;
    const frames = base.then({ step: "each", name: item, expr: value.expr });
    const result = runFunction(callbackOf(node, env), [expr(primary(item, type), frames)], node);
    if (name === "some") {
      const condition = truthy(exprOf(result, node, frames), env.rule);
      return expr(condition, longer(result.is === "expr" ? result.frames : null, frames));
    }
    if (result.is === "object" && result.spread) {
      return framesOf({ ...result, spread: longer(result.spread, frames) }, node, env);
    }
    return column(frames, result, node, env);
  }
  throw new ByHand(`\`${name}\` in \`${excerpt(node)}\``, node);
}
