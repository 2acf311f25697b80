/** Translates the rules of a project. */

import ts from "@typescript/typescript6";
import { docOf, hasModifier, type Concept } from "./concepts.js";
import { evaluate } from "./expressions.js";
import { framesOf, members } from "./frames.js";
import { bare, Broken, ByHand, excerpt, keyOf, type Project } from "./project.js";
import {
  boundBy,
  LEVELS,
  Names,
  wrap,
  type Arg,
  type Call,
  type Pattern,
  type Rule,
  type Step,
} from "./rule.js";
import { runFunction } from "./statements.js";
import type { Type } from "./types.js";
import { exprOf, Frames, type Env, type RuleContext, type Value } from "./values.js";

const MARK_LIST = "Added by `concert-import --answers`: an empty list is a response, too.";

/** A file of rules. */
export interface RuleFile {
  path: string;
  rules: Rule[];
}

/** Translates all rules below `src/syncs`. */
export function readRules(
  project: Project,
  concepts: ReadonlyMap<string, Concept>,
  answers: boolean,
): RuleFile[] {
  const seen = new Set<string>();
  return project.find("src/syncs", ".sync.ts").map((path) => {
    const file = project.source(path)!;
    const rules: Rule[] = [];
    for (const { name, node } of exportsOf(file)) {
      const rule = readRule(project, concepts, answers, file, name, node);
      if (!rule) continue;
      if (seen.has(rule.name)) {
        rule.notes.push(`another rule is called ${rule.name}`);
        if (rule.verdict === "exact") rule.verdict = "changed";
        while (seen.has(rule.name)) rule.name = `${rule.name}2`;
      }
      seen.add(rule.name);
      rules.push(rule);
    }
    return { path, rules };
  });
}

interface Exported {
  name: string;
  node: ts.Node;
}

function exportsOf(file: ts.SourceFile): Exported[] {
  return file.statements.flatMap((statement): Exported[] => {
    if (!hasModifier(statement, ts.SyntaxKind.ExportKeyword)) return [];
    if (ts.isFunctionDeclaration(statement) && statement.name) {
      return [{ name: statement.name.text, node: statement }];
    }
    if (!ts.isVariableStatement(statement)) return [];
    return statement.declarationList.declarations.map((of) => ({
      name: of.name.getText(),
      node: of,
    }));
  });
}

/** The rule of an exported function; `null` if it is something else. */
function readRule(
  project: Project,
  concepts: ReadonlyMap<string, Concept>,
  answers: boolean,
  file: ts.SourceFile,
  name: string,
  node: ts.Node,
): Rule | null {
  const of = ts.isVariableDeclaration(node) ? node.initializer && bare(node.initializer) : node;
  const isFunction =
    of && (ts.isArrowFunction(of) || ts.isFunctionExpression(of) || ts.isFunctionDeclaration(of));
  if (!isFunction) return null;
  const parts = partsOf(of);
  if (!parts) return null;
  const statement = ts.isVariableDeclaration(node) ? node.parent.parent : node;
  const rule: Rule = {
    name: name.replaceAll(/\W/g, "").replace(/^_*./, (first) => first.slice(-1).toUpperCase()),
    place: project.place(node),
    comment: docOf(statement)
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "" && !/^-+$/.test(line))
      .flatMap(wrap),
    verdict: "exact",
    notes: [],
    when: [],
    where: [],
    then: [],
  };
  const names = new Names();
  const start = new Frames([], new Map());
  const context: RuleContext = {
    project,
    concepts,
    names,
    notes: rule.notes,
    comment: rule.comment,
    defaults: new Map(),
    covered: new Set(),
    guards: [],
    start,
    answers,
  };
  const env: Env = { file, locals: new Map(), rule: context };
  try {
    const [vars] = of.parameters;
    if (vars) bindVars(vars.name, env);
    readParts(rule, parts, env);
    if (rule.notes.length > 0) rule.verdict = "changed";
  } catch (error) {
    if (!(error instanceof ByHand || error instanceof Broken)) throw error;
    rule.verdict = error instanceof ByHand ? "by hand" : "broken at the source";
    rule.notes = [error.message];
    [rule.where, rule.then] = [[], []];
    rule.place = project.place(error.node);
  }
  return rule;
}

interface Parts {
  when: ts.Expression;
  where: ts.Expression | ts.MethodDeclaration | null;
  then: ts.Expression;
}

/** The members of the object that a rule function returns. */
function partsOf(
  node: ts.ArrowFunction | ts.FunctionExpression | ts.FunctionDeclaration,
): Parts | null {
  let body: ts.Node | undefined = node.body;
  if (body && ts.isBlock(body)) body = body.statements.find(ts.isReturnStatement)?.expression;
  const object = body && bare(body as ts.Expression);
  if (!object || !ts.isObjectLiteralExpression(object)) return null;
  const member = (name: string): ts.Expression | ts.MethodDeclaration | null => {
    const found = object.properties.find(
      (of) => of.name && keyOf(of.name as ts.PropertyName) === name,
    );
    if (!found) return null;
    if (ts.isPropertyAssignment(found)) return found.initializer;
    if (ts.isShorthandPropertyAssignment(found)) return found.name;
    return ts.isMethodDeclaration(found) ? found : null;
  };
  const [when, then] = [member("when"), member("then")];
  if (!when || !then || ts.isMethodDeclaration(when) || ts.isMethodDeclaration(then)) return null;
  return { when, where: member("where"), then };
}

function bindVars(pattern: ts.BindingName, env: Env): void {
  if (!ts.isObjectBindingPattern(pattern))
    throw new ByHand("the variables are not destructured", pattern);
  for (const { name, propertyName } of pattern.elements) {
    const id = name.getText();
    const description = (propertyName ?? name).getText();
    env.locals.set(id, { is: "symbol", symbol: { id, description } });
  }
}

function readParts(rule: Rule, parts: Parts, env: Env): void {
  const context = env.rule;
  for (const entry of entriesOf(parts.when, env)) {
    rule.when.push(readPattern(entry, env));
  }
  let frames = context.start;
  if (parts.where) {
    const node = parts.where;
    const where: Value = ts.isMethodDeclaration(node)
      ? { is: "function", node, env }
      : evaluate(node, env);
    if (where.is !== "function") throw new ByHand("the value of `where`", node);
    const result = runFunction(where, [{ is: "frames", frames }], node);
    const found = framesOf(result, node, env);
    if (found.is !== "frames") throw new Broken("`where` always returns no frames", node);
    frames = merged(found.frames, context.guards);
    frames = checkCollections(frames, node, env);
  }
  rule.where = [...frames.steps];
  readThen(rule, parts.then, frames, env);
  dropUnused(rule);
}

/** The steps of the result and of all conditions that the source tests. */
function merged(result: Frames, guards: readonly Frames[]): Frames {
  let found = result;
  for (const guard of guards) {
    const added = guard.steps.filter((step) => !found.steps.includes(step));
    if (added.length === 0) continue;
    const shared = guard.steps.findLastIndex((step) => found.steps.includes(step));
    const at = shared < 0 ? 0 : found.steps.indexOf(guard.steps[shared]!) + 1;
    const steps = [...found.steps.slice(0, at), ...added, ...found.steps.slice(at)];
    found = new Frames(
      steps,
      new Map([...guard.names, ...found.names]),
      new Map([...guard.types, ...found.types]),
    );
  }
  return found;
}

/** Compares the groups of collections with those of the source. */
function checkCollections(from: Frames, node: ts.Node, env: Env): Frames {
  const { rule } = env;
  let steps: Step[] = [];
  const defaults = new Set(rule.defaults.keys());
  const hidden = new Set<string>();
  for (const step of from.steps) {
    steps.push(step);
    if (step.step !== "collect") continue;
    const fields = step.fields.map(({ value }) => value);
    const begin = steps.findIndex((of) => boundBy(of).some((name) => fields.includes(name)));
    if (begin < 0) throw new ByHand("a collection of variables of `when`", node);
    const others = steps
      .slice(begin)
      .flatMap(boundBy)
      .filter((name) => !fields.includes(name));
    if (others.length > 0 && step.fields[0]?.key !== "") {
      rule.notes.push(`the list is not grouped by ${others.map((of) => `\`${of}\``).join(", ")}`);
    }
    const id = from.symbolOf(step.as);
    const isDefault = id !== undefined && defaults.delete(id);
    for (const name of steps.slice(begin).flatMap(boundBy)) hidden.add(name);
    const early = steps.slice(0, begin).find((of) => of.step === "query" && !of.neverEmpty);
    if (isDefault && early) {
      rule.notes.push(
        "only an empty collection gives an empty list, not an earlier step without a result",
      );
    }
    // `collectAs` of no frames gives no frames; a list of values is empty then.
    const isOfFrames = step.fields[0]?.key !== "";
    if (!isDefault && isOfFrames && rule.answers) rule.comment.push(MARK_LIST);
    if (!isDefault && isOfFrames && !rule.answers) {
      steps = [
        ...steps,
        { step: "condition", expr: { text: `${step.as} != []`, level: LEVELS.compare } },
      ];
    }
  }
  const [left] = defaults;
  if (left !== undefined)
    throw new ByHand("another result if there are no frames", rule.defaults.get(left)!.node);
  const names = new Map(from.names);
  for (const [id, name] of from.names) {
    if (!hidden.has(name)) continue;
    rule.covered.add(id);
    names.delete(id);
  }
  return new Frames(steps, names, from.types);
}

/** The elements of `actions([…], […])`. */
function entriesOf(from: ts.Expression, env: Env): ts.ArrayLiteralExpression[] {
  const node = bare(from);
  const isActions = ts.isCallExpression(node) && node.expression.getText() === "actions";
  if (!isActions) throw new ByHand(`\`${excerpt(node)}\` instead of \`actions(…)\``, node);
  return node.arguments.map((argument) => {
    const entry = bare(argument);
    if (ts.isArrayLiteralExpression(entry)) return entry;
    if (ts.isIdentifier(entry)) {
      const found = env.rule.project.declaration(env.file, entry.text);
      const value =
        found && ts.isVariableDeclaration(found) && found.initializer && bare(found.initializer);
      if (value && ts.isArrayLiteralExpression(value)) return value;
    }
    throw new ByHand(`the action \`${excerpt(entry)}\``, entry);
  });
}

/** Concept and action of an entry. */
function actionOf(entry: ts.ArrayLiteralExpression, env: Env): { concept: string; action: string } {
  const target = entry.elements[0] && bare(entry.elements[0]);
  if (!target || !ts.isPropertyAccessExpression(target)) {
    throw new ByHand(`the action of \`${excerpt(entry)}\``, entry);
  }
  const [concept, action] = [target.expression.getText(), target.name.text];
  if (concept === "Requesting") return { concept, action };
  const found = env.rule.concepts.get(concept);
  if (!found) throw new Broken(`there is no concept ${concept}`, target);
  if (!found.actions.has(action)) {
    if (action.startsWith("_"))
      throw new Broken(`the query ${concept}.${action} as an action`, target);
    const omitted = found.omitted.find(({ name }) => name === action);
    if (omitted) throw new ByHand(`${concept}.${action} is left out: ${omitted.reason}`, target);
    throw new Broken(`${concept} has no action \`${action}\``, target);
  }
  return { concept, action };
}

/** A pattern of `when`; its symbols become variables. */
function readPattern(entry: ts.ArrayLiteralExpression, env: Env): Pattern {
  const { concept, action } = actionOf(entry, env);
  const args = (node: ts.Expression | undefined): Arg[] =>
    members(node, env).map(([key, value]) => {
      if (value.is !== "symbol") {
        const { text } = exprOf(value, entry);
        const isLiteral = /^("(?:[^"\\]|\\.)*"|-?\d[\d.]*|true|false|null)$/.test(text);
        if (!isLiteral) throw new ByHand(`the pattern \`${key}: ${text}\``, entry);
        return { key, value: text };
      }
      const known = env.rule.start.names.get(value.symbol.id);
      if (known !== undefined) return { key, value: known };
      const name = env.rule.names.fresh(value.symbol.id);
      const type = typeOf(concept, action, key, env);
      env.rule.start = env.rule.start.bind(value.symbol.id, name, type);
      return { key, value: name };
    });
  const input = args(entry.elements[1]);
  const output = args(entry.elements[2]);
  const spec = env.rule.concepts.get(concept)?.actions.get(action);
  if (spec) {
    checkKeys(
      `${concept}.${action}`,
      input,
      spec.input.map(({ name }) => name),
      entry,
      "takes",
    );
    const known = [...spec.output.map(({ name }) => name), "error"];
    checkKeys(`${concept}.${action}`, output, known, entry, "returns");
    if (output.length > 1 && output.some(({ key }) => key === "error")) {
      throw new ByHand("a pattern with `error` and other keys", entry);
    }
  }
  return { concept, action, input, output };
}

function typeOf(concept: string, action: string, key: string, env: Env): Type | undefined {
  const spec = env.rule.concepts.get(concept)?.actions.get(action);
  return spec && [...spec.input, ...spec.output].find(({ name }) => name === key)?.type;
}

function checkKeys(of: string, args: Arg[], known: string[], node: ts.Node, verb: string): void {
  const unknown = args.find(({ key }) => !known.includes(key));
  if (unknown) throw new Broken(`${of} ${verb} no \`${unknown.key}\``, node);
}

/** The calls of `then`. An output binds a variable if a later call uses it. */
function readThen(rule: Rule, node: ts.Expression, from: Frames, env: Env): void {
  let frames = from;
  const entries = entriesOf(node, env).map((entry) => ({
    entry,
    ...actionOf(entry, env),
    input: members(entry.elements[1], env),
    output: members(entry.elements[2], env),
  }));
  for (const [index, { entry, concept, action, input, output }] of entries.entries()) {
    const args = input.map(([key, value]): Arg => {
      if (value.is === "symbol" && !frames.names.has(value.symbol.id)) {
        if (env.rule.covered.has(value.symbol.id)) {
          throw new ByHand(`\`${value.symbol.id}\` after the collection that covers it`, entry);
        }
        throw new Broken(`\`${value.symbol.id}\` is never bound`, entry);
      }
      return { key, value: exprOf(value, entry, frames).text };
    });
    const spec = env.rule.concepts.get(concept)?.actions.get(action);
    if (spec) {
      checkKeys(
        `${concept}.${action}`,
        args,
        spec.input.map(({ name }) => name),
        entry,
        "takes",
      );
      const missing = spec.input.find(
        ({ name, optional }) => !optional && !args.some(({ key }) => key === name),
      );
      if (missing) throw new Broken(`${concept}.${action} needs \`${missing.name}\``, entry);
    }
    const call: Call = { concept, action, input: args, output: [] };
    for (const [key, value] of output) {
      if (value.is !== "symbol" || frames.names.has(value.symbol.id)) continue;
      const id = value.symbol.id;
      const isUsed = entries
        .slice(index + 1)
        .some((later) => later.input.some(([, of]) => of.is === "symbol" && of.symbol.id === id));
      if (!isUsed) continue;
      const name = env.rule.names.fresh(id);
      call.output.push({ key, value: name });
      frames = frames.bind(id, name);
      env.rule.notes.push(
        `\`then\` binds \`${id}\` for later calls; the source has no value there`,
      );
    }
    rule.then.push(concept === "Requesting" && action === "respond" ? respond(call) : call);
  }
}

/** A response. A key `status` belongs to the body, as in the source. */
export function respond(call: Call): Call {
  if (!call.input.some(({ key }) => key === "status")) return call;
  const [request, ...body] = [
    ...call.input.filter(({ key }) => key === "request"),
    ...call.input.filter(({ key }) => key !== "request"),
  ];
  const keys = body.map(({ key, value }) => `${key}: ${value}`).join(", ");
  return {
    ...call,
    action: "respondWith",
    input: [request!, { key: "body", value: `{${keys}}` }],
  };
}

/** Removes outputs of queries that no later step uses, and repeated steps. */
function dropUnused(rule: Rule): void {
  const used = (name: string, after: number): boolean => {
    const texts = [
      ...rule.where.slice(after).map((step) => JSON.stringify(step)),
      ...rule.then.map((call) => JSON.stringify(call.input)),
    ];
    return texts.some((text) => new RegExp(`(?<![\\w.])${name}(?!\\w)`).test(text));
  };
  for (const [index, step] of rule.where.entries()) {
    if (step.step !== "query") continue;
    step.output = step.output.filter(({ value }) => used(value, index + 1));
    // It is a test, `some`, which gives one frame.
    if (step.output.length === 0) step.isMany = false;
  }
}
