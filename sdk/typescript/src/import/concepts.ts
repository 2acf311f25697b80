/** Concept classes: their actions and queries, and what they need besides their collections. */

import ts from "@typescript/typescript6";
import { conceptName, excerpt, keyOf, type Place, type Project } from "./project.js";
import { Bodies, type Facts, type Rows } from "./rows.js";
import type { Arg, QueryStep } from "./rule.js";
import { ANY, Types, type Field, type Loose } from "./types.js";

/** A method that is an action or a query of the spec. */
export interface Method {
  name: string;
  /** Name of the method in the class. */
  method: string;
  input: Field[];
  /** Keys of a success, or of a row. */
  output: Field[];
  canFail: boolean;
  writes: boolean;
  rows: Rows;
  neverEmpty: boolean;
  /** Whether the method returns a list. */
  isList: boolean;
  effects: string | null;
  requires: string | null;
}

/** The step of a rule that asks a query. */
export function queryStep(
  concept: string,
  { name, rows, output: keys, neverEmpty }: Method,
  input: Arg[],
  output: Arg[],
): QueryStep {
  const isMany = rows === "*";
  const isOne = rows === "" && !keys.some(({ optional }) => optional);
  return { step: "query", concept, query: name, input, output, isMany, isOne, neverEmpty };
}

/** Whether a class can run behind the host. */
export type Verdict =
  | { verdict: "runs" }
  | { verdict: "needs a service" | "reaches outside its database"; why: string[] };

/** A concept of the project. */
export interface Concept {
  name: string;
  file: string;
  className: string;
  isDefault: boolean;
  /** Whether the second parameter of the constructor is a `MongoClient`. */
  takesClient: boolean;
  purpose: string;
  principle: string;
  actions: Map<string, Method>;
  queries: Map<string, Method>;
  /** Methods that are left out, and why. */
  omitted: { name: string; reason: string; place: Place }[];
  loose: Loose[];
  verdict: Verdict;
}

/** Packages that compute without a network. */
const PURE = new RegExp(
  "^(npm:|jsr:)?(@std/|node:(crypto|buffer|util|url|path)|" +
    "(mongodb|bson|bcryptjs?|bcrypt-ts|argon2|uuid|nanoid|zod|date-fns|lodash|luxon|dayjs)(@|/|$))",
);
const OUTSIDE = /^(Deno|process|localStorage|setTimeout|setInterval)$/;

/** Reads all concepts; `Requesting` is built in. */
export function readConcepts(project: Project): Map<string, Concept> {
  const found = new Map<string, Concept>();
  for (const path of project.find("src/concepts", "Concept.ts")) {
    const name = conceptName(path);
    if (name === "Requesting" || name === "" || found.has(name)) continue;
    const file = project.source(path)!;
    const declaration = file.statements.find(
      (of): of is ts.ClassDeclaration =>
        ts.isClassDeclaration(of) && conceptName(of.name?.text ?? "") === name,
    );
    if (declaration) found.set(name, readConcept(project, name, path, declaration));
  }
  return found;
}

function readConcept(
  project: Project,
  name: string,
  path: string,
  declaration: ts.ClassDeclaration,
): Concept {
  const types = new Types(project);
  const bodies = new Bodies(declaration);
  const text = docOf(declaration);
  const concept: Concept = {
    name,
    file: path,
    className: declaration.name!.text,
    isDefault: hasModifier(declaration, ts.SyntaxKind.DefaultKeyword),
    takesClient: isClient(secondParameter(declaration)),
    purpose: section(text, "purpose") ?? "(not described)",
    principle: section(text, "principle") ?? "(not described)",
    actions: new Map(),
    queries: new Map(),
    omitted: [],
    loose: types.loose,
    verdict: verdictOf(project, declaration),
  };
  for (const member of declaration.members) {
    if (!ts.isMethodDeclaration(member) || !member.body) continue;
    const method = keyOf(member.name);
    const isPrivate =
      ts.isPrivateIdentifier(member.name) ||
      hasModifier(member, ts.SyntaxKind.PrivateKeyword) ||
      hasModifier(member, ts.SyntaxKind.ProtectedKeyword) ||
      hasModifier(member, ts.SyntaxKind.StaticKeyword);
    if (!method || isPrivate) continue;
    const omit = (reason: string): void => {
      concept.omitted.push({ name: method, reason, place: project.place(member) });
    };
    const facts = bodies.facts(method);
    if (method.startsWith("_") && facts.writes) omit("a query that writes");
    else if (!/^_?[a-z]\w*$/.test(method)) omit("specs do not accept this name");
    else if (member.parameters.length > 1) omit("it takes several arguments");
    else {
      const read = readMethod(types, member, method, facts);
      if (typeof read === "string") omit(read);
      else (method.startsWith("_") ? concept.queries : concept.actions).set(method, read);
    }
  }
  return concept;
}

function readMethod(
  types: Types,
  node: ts.MethodDeclaration,
  name: string,
  facts: Facts,
): Method | string {
  const [parameter] = node.parameters;
  let input: Field[] = [];
  if (parameter?.type) {
    const shapes = types.shapes(parameter.type);
    if (shapes?.length !== 1) return "its input is not an object with known keys";
    input = shapes[0]!;
  } else if (parameter) {
    if (!ts.isObjectBindingPattern(parameter.name)) return "its input has no type";
    input = parameter.name.elements.map((of) => ({
      name: (of.propertyName ?? of.name).getText(),
      optional: of.initializer !== undefined,
      type: ANY,
    }));
  }
  if (parameter && ts.isObjectBindingPattern(parameter.name)) {
    for (const { propertyName, name: local, initializer } of parameter.name.elements) {
      const key = (propertyName ?? local).getText();
      input = input.map((of) => (of.name === key && initializer ? { ...of, optional: true } : of));
    }
  }
  const tolerated = defaultsOf(node);
  input = input.map((of) => (tolerated.has(of.name) ? { ...of, optional: true } : of));
  const isQuery = name.startsWith("_");
  const result = readResult(types, node, facts, isQuery);
  const text = docOf(node);
  return {
    name,
    method: name,
    input,
    output: result.output,
    canFail: result.canFail || facts.canFail,
    writes: facts.writes,
    rows: facts.rows,
    neverEmpty: facts.neverEmpty,
    isList: result.isList || facts.isList,
    effects: section(text, "effects"),
    requires: section(text, "requires"),
  };
}

/** Names that a method replaces by a default if they are missing, such as `tags || []`. */
function defaultsOf(node: ts.MethodDeclaration): Set<string> {
  const found = new Set<string>();
  const visit = (of: ts.Node): void => {
    const isDefault =
      ts.isBinaryExpression(of) &&
      (of.operatorToken.kind === ts.SyntaxKind.BarBarToken ||
        of.operatorToken.kind === ts.SyntaxKind.QuestionQuestionToken);
    if (isDefault && ts.isIdentifier(of.left) && !ts.isPrefixUnaryExpression(of.right)) {
      const { right } = of;
      const isValue =
        ts.isLiteralExpression(right) ||
        ts.isArrayLiteralExpression(right) ||
        ts.isObjectLiteralExpression(right);
      if (isValue) found.add(of.left.text);
    }
    ts.forEachChild(of, visit);
  };
  if (node.body) visit(node.body);
  return found;
}

interface Result {
  output: Field[];
  canFail: boolean;
  isList: boolean;
}

/** The success of a method: the shapes without the key `error`, as one list of keys. */
function readResult(
  types: Types,
  node: ts.MethodDeclaration,
  facts: Facts,
  isQuery: boolean,
): Result {
  const found = node.type ? elements(node.type) : { node: null, isList: false };
  const shapes = found.node && types.shapes(found.node);
  if (!shapes) {
    const keys = new Set(facts.keys.flatMap((of) => [...of]));
    keys.delete("error");
    if (keys.size === 0 && isQuery) keys.add("value");
    const type = found.node && keys.size === 1 && isQuery ? types.read(found.node, "value") : ANY;
    const output = [...keys].map((name) => ({ name, optional: isMissing(facts, name), type }));
    return { output, canFail: false, isList: found.isList };
  }
  const isError = (fields: Field[]): boolean =>
    fields.some((of) => of.name === "error" && !of.optional);
  const canFail = shapes.some((fields) => fields.some((of) => of.name === "error"));
  const isMixed = shapes.some((fields) => fields.some((of) => of.name === "error" && of.optional));
  const output = new Map<string, Field>();
  const successes = shapes.filter((fields) => !isError(fields));
  for (const fields of successes) {
    for (const field of fields) {
      if (field.name === "error") continue;
      // In `{ a?: T; error?: string }`, a success has the key `a`.
      const optional = isMixed ? isMissing(facts, field.name) : field.optional;
      output.set(field.name, { ...field, optional });
    }
  }
  for (const field of output.values()) {
    field.optional ||= successes.some((fields) => !fields.some((of) => of.name === field.name));
  }
  return { output: [...output.values()], canFail, isList: found.isList };
}

/** Reports whether a successful result of the body lacks a key. */
function isMissing(facts: Facts, key: string): boolean {
  return facts.keys.some((keys) => !keys.has(key));
}

/** The type of the elements, if the type is a list or a union that contains one. */
function elements(node: ts.TypeNode): { node: ts.TypeNode; isList: boolean } {
  if (ts.isParenthesizedTypeNode(node)) return elements(node.type);
  if (ts.isTypeReferenceNode(node) && node.typeArguments?.[0]) {
    const name = node.typeName.getText();
    if (name === "Promise") return elements(node.typeArguments[0]);
    if (name === "Array") return { node: node.typeArguments[0], isList: true };
  }
  if (ts.isArrayTypeNode(node)) return { node: node.elementType, isList: true };
  if (ts.isTupleTypeNode(node) && node.elements.length > 0) {
    return { node: node.elements[0] as ts.TypeNode, isList: true };
  }
  if (ts.isUnionTypeNode(node)) {
    const parts = node.types.filter((of) => !/^(null|undefined|void|\[\])$/.test(of.getText()));
    const lists = parts.map(elements);
    const list = lists.find(({ node: of, isList }) => isList && !/\berror\b/.test(of.getText()));
    const isUniform = parts.every(
      (of, index) => lists[index]!.isList || /\berror\b/.test(of.getText()),
    );
    if (list && isUniform) return list;
    const [only] = parts;
    if (only && parts.length === 1) return elements(only);
  }
  return { node, isList: false };
}

function secondParameter(declaration: ts.ClassDeclaration): ts.ParameterDeclaration | undefined {
  return declaration.members.find(ts.isConstructorDeclaration)?.parameters[1];
}

function isClient(parameter: ts.ParameterDeclaration | undefined): boolean {
  return parameter?.type?.getText() === "MongoClient";
}

function verdictOf(project: Project, declaration: ts.ClassDeclaration): Verdict {
  const services: string[] = [];
  const outside: string[] = [];
  const file = declaration.getSourceFile();
  const add = (list: string[], node: ts.Node, what: string): void => {
    const { line } = project.place(node);
    if (!list.some((of) => of.startsWith(what))) list.push(`${what} (line ${line})`);
  };
  for (const specifier of project.modules(file).keys()) {
    const isOwn = project.resolve(file.fileName, specifier) !== null;
    const target = project.imports[specifier] ?? specifier;
    if (!isOwn && !PURE.test(target)) add(services, file, `it imports ${specifier}`);
  }
  const second = secondParameter(declaration);
  if (second && !second.questionToken && !second.initializer && !isClient(second)) {
    add(services, second, `its constructor takes \`${second.name.getText()}\``);
  }
  const own = conceptName(declaration.name!.text);
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node)) {
      const called = node.expression.getText();
      if (called === "fetch") add(services, node, "it calls `fetch`");
      if (called === "getDb") add(outside, node, "it opens a database");
      const [argument] = node.arguments;
      if (/\.collection$/.test(called) && argument && ts.isStringLiteral(argument)) {
        const [concept, rest] = argument.text.split(".");
        const isOwn = rest === undefined || concept === own;
        if (!isOwn) add(outside, node, `it uses the collection ${argument.text}`);
      }
    } else if (ts.isIdentifier(node) && OUTSIDE.test(node.text)) {
      const { parent } = node;
      const isMember = ts.isPropertyAccessExpression(parent) && parent.name === node;
      if (!isMember) add(outside, node, `it uses \`${excerpt(parent)}\``);
    }
    ts.forEachChild(node, visit);
  };
  ts.forEachChild(file, visit);
  if (services.length > 0) return { verdict: "needs a service", why: services };
  if (outside.length > 0) return { verdict: "reaches outside its database", why: outside };
  return { verdict: "runs" };
}

/** Reports whether a declaration has a modifier, such as `export`. */
export function hasModifier(node: ts.Node, kind: ts.SyntaxKind): boolean {
  return ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some((of) => of.kind === kind);
}

/** The comment directly above a declaration, without its frame. */
export function docOf(node: ts.Node): string {
  const text = node.getSourceFile().text;
  const ranges = ts.getLeadingCommentRanges(text, node.getFullStart()) ?? [];
  const last = ranges.at(-1);
  if (!last) return "";
  return text
    .slice(last.pos, last.end)
    .replaceAll(/^\s*(\/\*\*?|\*\/|\*|\/\/) ?/gm, "")
    .replace(/\*\/\s*$/, "");
}

/** Words that begin a part of a comment. */
const PARTS = "requires|effects|purpose|principle|state|actions|queries";

/** A part of a comment, such as `**effects** …`, as one line. */
function section(text: string, name: string): string | null {
  const margin = "\\s*[-*@ ]*";
  const end = `(?=\\n\\s*\\n|\\n${margin}(?:${PARTS})\\b|$)`;
  const part = new RegExp(`(?:^|\\n)${margin}${name}\\b[*: ]*([\\s\\S]*?)${end}`, "i");
  const line = part.exec(text)?.[1]?.replaceAll(/\s+/g, " ").trim();
  return line ? line.replaceAll("**", "") : null;
}

/** Makes a query of an action that rules use as one; `null` if the concept has no such action. */
export function asQuery(concept: Concept, name: string): Method | null {
  const query = concept.queries.get(`_${name}`);
  if (query) return query;
  const action = concept.actions.get(name);
  if (!action || action.writes) return null;
  const made = { ...action, name: `_${name}` };
  concept.queries.set(made.name, made);
  // An action returns one object.
  if (action.isList) concept.actions.delete(name);
  return made;
}
