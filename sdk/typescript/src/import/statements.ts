/** Symbolic execution of the statements of a `where` function. */

import ts from "@typescript/typescript6";
import { evaluate, evaluateExpr, exprValue, output } from "./expressions.js";
import { assign, framesOf } from "./frames.js";
import { bare, ByHand, excerpt, keyOf } from "./project.js";
import { LEVELS } from "./rule.js";
import {
  exprOf,
  longer,
  negated,
  operand,
  truthy,
  type Env,
  type Frames,
  type Value,
} from "./values.js";

/** Runs a function with arguments. */
export function runFunction(
  { node, env }: Extract<Value, { is: "function" }>,
  given: Value[],
  call: ts.Node,
): Value {
  const inner: Env = { ...env, locals: new Map(env.locals) };
  for (const [index, { name, initializer }] of node.parameters.entries()) {
    const value = given[index] ?? (initializer ? evaluate(initializer, env) : null);
    if (value) bindPattern(name, value, inner, name);
  }
  if (!node.body) throw new ByHand(`the function of \`${excerpt(call)}\``, call);
  if (!ts.isBlock(node.body)) return evaluate(node.body, inner);
  const result = run([...node.body.statements], inner);
  if (!result) throw new ByHand(`a function without a result in \`${excerpt(call)}\``, call);
  return result;
}

/** Runs statements until a `return`; `null` if there is none. */
function run(statements: ts.Statement[], env: Env): Value | null {
  for (const [index, statement] of statements.entries()) {
    const rest = statements.slice(index + 1);
    if (ts.isReturnStatement(statement)) {
      return statement.expression ? evaluate(statement.expression, env) : { is: "nothing" };
    }
    // The engine logs an error of a rule, and the rule calls nothing.
    if (ts.isThrowStatement(statement)) return { is: "nothing" };
    if (ts.isVariableStatement(statement)) {
      for (const { name, initializer } of statement.declarationList.declarations) {
        if (initializer) bindPattern(name, evaluate(initializer, env), env, statement);
      }
    } else if (ts.isExpressionStatement(statement)) {
      runExpression(statement.expression, env);
    } else if (ts.isIfStatement(statement)) {
      return runIf(statement, rest, env);
    } else if (ts.isBlock(statement)) {
      return run([...statement.statements, ...rest], env);
    } else if (ts.isTryStatement(statement)) {
      env.rule.notes.push("an error in `try` is a fault, and does not run `catch`");
      return run([...statement.tryBlock.statements, ...rest], env);
    } else if (ts.isForOfStatement(statement)) {
      runLoop(statement, env);
    } else if (!ts.isFunctionDeclaration(statement) && !ts.isEmptyStatement(statement)) {
      throw new ByHand(`the statement \`${excerpt(statement)}\``, statement);
    }
  }
  return null;
}

function runExpression(from: ts.Expression, env: Env): void {
  const node = bare(from);
  if (isLog(node)) return;
  const isAssignment =
    ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.EqualsToken;
  if (isAssignment && ts.isIdentifier(node.left)) {
    env.locals.set(node.left.text, evaluate(node.right, env));
    return;
  }
  if (isAssignment && ts.isElementAccessExpression(node.left)) {
    assignToFrame(node.left, evaluate(node.right, env), env);
    return;
  }
  throw new ByHand(`the statement \`${excerpt(node)}\``, node);
}

/** `frames[0][x] = value` changes the frame wherever it is used. */
function assignToFrame(node: ts.ElementAccessExpression, value: Value, env: Env): void {
  const frame = evaluate(node.expression, env);
  const key = evaluate(node.argumentExpression, env);
  if (frame.is !== "frame" || key.is !== "symbol") {
    throw new ByHand(`the assignment to \`${excerpt(node)}\``, node);
  }
  const other = value.is === "expr" || value.is === "column" ? value.frames : null;
  const frames = assign(longer(frame.frames, other)!, key.symbol, value, node, env);
  for (const [name, of] of env.locals) {
    const isSame = (of.is === "frame" || of.is === "frames") && of.frames === frame.frames;
    if (isSame) env.locals.set(name, { ...of, frames });
  }
}

function isLog(node: ts.Node): boolean {
  return ts.isCallExpression(node) && /^console\./.test(node.expression.getText());
}

/** Binds the names of a pattern to the parts of a value. */
function bindPattern(pattern: ts.BindingName, value: Value, env: Env, node: ts.Node): void {
  if (ts.isIdentifier(pattern)) {
    env.locals.set(pattern.text, value);
    return;
  }
  if (ts.isArrayBindingPattern(pattern)) {
    const [first, second] = pattern.elements;
    if (!first || ts.isOmittedExpression(first) || second) {
      throw new ByHand(`the pattern \`${excerpt(pattern)}\``, node);
    }
    const item: Value =
      value.is === "rows"
        ? { ...value, is: "row" }
        : value.is === "frames"
          ? { is: "frame", frames: value.frames }
          : value;
    bindPattern(first.name, item, env, node);
    return;
  }
  for (const element of pattern.elements) {
    const key = element.propertyName ?? element.name;
    const name = keyOf(key as ts.PropertyName);
    if (ts.isComputedPropertyName(key) && value.is === "frame") {
      const symbol = evaluate(key.expression, env);
      if (symbol.is !== "symbol") throw new ByHand(`the pattern \`${excerpt(pattern)}\``, node);
      const of = exprOf(symbol, node, value.frames);
      bindPattern(element.name, exprValue(of, value.frames), env, node);
    } else if (name && (value.is === "row" || value.is === "rows")) {
      bindPattern(element.name, output(value, name, node, env), env, node);
    } else throw new ByHand(`the pattern \`${excerpt(pattern)}\``, node);
  }
}

/** Statements of a branch, without logging. */
function branch(statement: ts.Statement | undefined): ts.Statement[] {
  if (!statement) return [];
  const all = ts.isBlock(statement) ? [...statement.statements] : [statement];
  return all.filter((of) => !(ts.isExpressionStatement(of) && isLog(bare(of.expression))));
}

function runIf(node: ts.IfStatement, rest: ts.Statement[], env: Env): Value | null {
  const condition = evaluate(node.expression, env);
  const [yes, no] = [branch(node.thenStatement), branch(node.elseStatement)];
  if (yes.length === 0 && no.length === 0) return run(rest, env);
  if (condition.is === "rows" || condition.is === "row") {
    const isFilled = { is: "emptiness", frames: condition.frames, isEmpty: false } as const;
    return ifEmpty(isFilled, node, yes, [...no, ...rest], env);
  }
  if (condition.is === "emptiness") return ifEmpty(condition, node, yes, [...no, ...rest], env);
  const { expr, frames } = evaluateExpr(node.expression, env);
  const isTrue = truthy(expr, env.rule);
  const other = run(yes, copy(env));
  if (!other) throw new ByHand(`the branch \`${excerpt(node)}\``, node);
  if (other.is === "expr" && (other.expr.text === "false" || other.expr.text === "true")) {
    const result = run([...no, ...rest], env);
    if (result?.is !== "expr") throw new ByHand(`the branch \`${excerpt(node)}\``, node);
    const isAnd = other.expr.text === "false";
    const level = isAnd ? LEVELS.and : LEVELS.or;
    const parts = [isAnd ? negated(isTrue) : isTrue, truthy(result.expr, env.rule)];
    const text = parts.map((of) => operand(of, level)).join(isAnd ? " and " : " or ");
    return exprValue({ text, level }, longer(frames, result.frames));
  }
  if (other.is === "nothing") {
    const base = frames ?? env.rule.start;
    env.rule.guards.push(base.then({ step: "condition", expr: negated(isTrue) }));
    return run([...no, ...rest], env);
  }
  throw new ByHand(`the branch \`${excerpt(node)}\``, node);
}

/** A branch for frames without elements. */
function ifEmpty(
  condition: Extract<Value, { is: "emptiness" }>,
  node: ts.IfStatement,
  yes: ts.Statement[],
  no: ts.Statement[],
  env: Env,
): Value | null {
  const { frames } = condition;
  const [onEmpty, onRows] = condition.isEmpty ? [yes, no] : [no, yes];
  const before = copy(env);
  const result = run(onRows, env) ?? (condition.isEmpty ? null : run(no, env));
  const other = run(onEmpty, before);
  const found = other && framesOf(other, node, env);
  if (result?.is === "frames" && found?.is === "frames") {
    const optional = withDefaults(result.frames, found.frames, frames, env);
    if (optional) return { is: "frames", frames: optional };
  }
  env.rule.guards.push(frames);
  if (found?.is !== "frames" || frames.isPrefixOf(found.frames)) return result;
  noteDefaults(found.frames, frames, node, env);
  return result;
}

/**
 * A query that the rule calls itself, with values for the case that it has no result: the query is
 * optional. `null` if this is something else.
 */
function withDefaults(result: Frames, found: Frames, after: Frames, env: Env): Frames | null {
  const step = after.steps.at(-1);
  if (step?.step !== "query" || result.steps.at(-1) !== step) return null;
  const lets = found.steps.filter((of) => !after.steps.includes(of));
  let frames = result;
  for (const of of lets) {
    const id = of.step === "let" && found.symbolOf(of.name);
    const output = id && result.names.get(id);
    if (!output || !step.output.some(({ value }) => value === output)) return null;
    const name = env.rule.names.fresh(id);
    const text = `${output} ?? ${operand(of.expr, LEVELS.sum)}`;
    const expr = { text, level: LEVELS.or_else };
    frames = frames.then({ step: "let", name, expr }).bind(id, name);
  }
  if (lets.length > 0) step.isOptional = true;
  return lets.length > 0 ? frames : null;
}

/** Remembers the values that the source uses if a result is empty. */
function noteDefaults(found: Frames, empty: Frames, node: ts.Node, env: Env): void {
  const lets = found.steps.filter((step) => !empty.steps.includes(step));
  for (const step of lets) {
    const id = step.step === "let" && found.symbolOf(step.name);
    if (!id || step.expr.text !== "[]") {
      throw new ByHand("another result if there are no frames", node);
    }
    env.rule.defaults.set(id, { after: empty, node });
  }
}

function copy(env: Env): Env {
  return { ...env, locals: new Map(env.locals) };
}

/** `for (const frame of frames) { …; result.push({ …frame, [x]: y }); }` is a `map`. */
function runLoop(node: ts.ForOfStatement, env: Env): void {
  const value = evaluate(node.expression, env);
  if (value.is !== "frames" || !ts.isVariableDeclarationList(node.initializer)) {
    throw new ByHand(`the loop over \`${excerpt(node.expression)}\``, node);
  }
  const inner = copy(env);
  const [item] = node.initializer.declarations;
  bindPattern(item!.name, { is: "frame", frames: value.frames }, inner, node);
  const statements = branch(node.statement);
  const last = statements.pop();
  const push = last && ts.isExpressionStatement(last) ? bare(last.expression) : null;
  const isPush =
    push && ts.isCallExpression(push) && ts.isPropertyAccessExpression(push.expression);
  if (!isPush || (push.expression as ts.PropertyAccessExpression).name.text !== "push") {
    throw new ByHand("a loop that does not end with `push`", node);
  }
  const target = (push.expression as ts.PropertyAccessExpression).expression.getText();
  for (const statement of statements) {
    if (ts.isIfStatement(statement) && isContinue(statement)) {
      const condition = evaluate(statement.expression, inner);
      if (condition.is === "emptiness") env.rule.guards.push(condition.frames);
      else {
        const { expr, frames } = evaluateExpr(statement.expression, inner);
        const base = frames ?? value.frames;
        const isTrue = truthy(expr, env.rule);
        env.rule.guards.push(base.then({ step: "condition", expr: negated(isTrue) }));
      }
    } else if (run([statement], inner)) throw new ByHand("a `return` in a loop", statement);
  }
  const pushed = framesOf(evaluate(push.arguments[0]!, inner), node, inner);
  if (pushed.is !== "frames" && pushed.is !== "nothing") throw new ByHand("a loop", node);
  env.locals.set(target, pushed);
}

function isContinue(node: ts.IfStatement): boolean {
  const [only] = branch(node.thenStatement);
  return only !== undefined && ts.isContinueStatement(only) && !node.elseStatement;
}
