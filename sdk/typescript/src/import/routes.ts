/** Open routes from a passthrough table: `POST /<Concept>/<method>` calls the method. */

import ts from "@typescript/typescript6";
import { queryStep, type Concept, type Method } from "./concepts.js";
import { bare, keyOf, type Place, type Project } from "./project.js";
import { answer, Names, requestPattern, type Arg, type Call, type Rule } from "./rule.js";

/** A route that the table opens. */
export interface OpenRoute {
  path: string;
  reason: string;
  place: Place;
  /** Missing if the route cannot be translated. */
  rule: Rule | null;
}

/** The routes of a project. */
export interface Routes {
  open: OpenRoute[];
  /** Paths of methods that the source opens without an entry in the table. */
  unlisted: string[];
}

/** Reads `inclusions` and `exclusions`. `handled` are the paths that rules handle. */
export function readRoutes(
  project: Project,
  concepts: ReadonlyMap<string, Concept>,
  handled: ReadonlySet<string>,
): Routes {
  const [path] = project.find("src/concepts/Requesting", "passthrough.ts");
  const file = path ? project.source(path) : null;
  if (!file) return { open: [], unlisted: [] };
  const valueOf = (name: string): ts.Expression | null => {
    const found = project.declaration(file, name);
    return found && ts.isVariableDeclaration(found) && found.initializer
      ? bare(found.initializer)
      : null;
  };
  const list = valueOf("exclusions");
  const excluded = new Set(
    list && ts.isArrayLiteralExpression(list)
      ? list.elements.filter(ts.isStringLiteralLike).map((of) => pathOf(of.text))
      : [],
  );
  const open: OpenRoute[] = [];
  const table = valueOf("inclusions");
  for (const member of table && ts.isObjectLiteralExpression(table) ? table.properties : []) {
    const key = ts.isPropertyAssignment(member) && keyOf(member.name);
    if (!key || excluded.has(pathOf(key)) || handled.has(pathOf(key))) continue;
    const { initializer } = member as ts.PropertyAssignment;
    const reason = ts.isStringLiteralLike(initializer) ? initializer.text : initializer.getText();
    const place = project.place(member);
    open.push({
      path: pathOf(key),
      reason,
      place,
      rule: routeRule(concepts, pathOf(key), reason, place),
    });
  }
  const known = new Set([...open.map((of) => of.path), ...excluded, ...handled]);
  const all = [...concepts.values()].flatMap(({ name, actions, queries, omitted }) =>
    [...actions.values(), ...queries.values(), ...omitted].map(
      (of) => `/${name}/${"method" in of ? of.method : of.name}`,
    ),
  );
  return { open, unlisted: [...new Set(all)].filter((of) => !known.has(of)).sort() };
}

/** The path without the base: its last two parts. */
function pathOf(route: string): string {
  return `/${route.split("/").filter(Boolean).slice(-2).join("/")}`;
}

function routeRule(
  concepts: ReadonlyMap<string, Concept>,
  path: string,
  reason: string,
  place: Place,
): Rule | null {
  const [, concept, name] = path.split("/");
  const found = concepts.get(concept ?? "");
  const method = found?.actions.get(name ?? "") ?? found?.queries.get(name ?? "");
  if (!found || !method) return null;
  const names = new Names();
  names.fresh("request");
  const input = method.input.map(({ name: key, optional }): Arg => ({
    key,
    value: names.fresh(key),
    optional,
  }));
  const output = method.output
    .filter(({ optional }) => !optional || method.name.startsWith("_"))
    .map(({ name: key, optional }): Arg => ({ key, value: names.fresh(key), optional }));
  const rule: Rule = {
    name: `Open${concept}${method.name.replace(/^_?./, (first) => first.slice(-1).toUpperCase())}`,
    place,
    comment: [`Open to every client: ${reason}`],
    verdict: "exact",
    notes: [],
    when: [requestPattern(JSON.stringify(path), input)],
    where: [],
    then: [],
  };
  if (method.name.startsWith("_")) queryRoute(rule, found.name, method, input, output);
  else {
    const outputs = output.map(({ key, value }) => ({ key, value }));
    const call: Call = { concept: found.name, action: method.name, input, output: outputs };
    rule.then = [
      call,
      answer(
        "respond",
        outputs.map(({ key, value }) => ({ key, value })),
      ),
    ];
    if (method.canFail) rule.otherwise = [answer("respond", [{ key: "error", value: "error" }])];
  }
  return rule;
}

function queryRoute(
  rule: Rule,
  concept: string,
  method: Method,
  input: Arg[],
  output: Arg[],
): void {
  const step = queryStep(concept, method, input, output);
  if (method.isList) {
    const as = output.some(({ value }) => value === "rows") ? "allRows" : "rows";
    const fields = output.map(({ key, value }) => ({ key, value }));
    rule.where = [step, { step: "collect", fields, as }];
    rule.then = [answer("respondWith", [{ key: "body", value: as }])];
    return;
  }
  const error = JSON.stringify(`${concept}.${method.name} has no result`);
  const answerTo = answer("respond", [
    { key: "error", value: error },
    { key: "status", value: "404" },
  ]);
  rule.where = [method.rows === "?" ? { ...step, answer: answerTo } : step];
  const members = output.map(({ key, value }) => `${key}: ${value}`).join(", ");
  rule.then = [answer("respondWith", [{ key: "body", value: `{${members}}` }])];
}
