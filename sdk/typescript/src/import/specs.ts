/** The text of a spec. */

import type { Concept, Method } from "./concepts.js";
import { fieldText, type Field, type Type } from "./types.js";

/** The spec of a concept. */
export function specText(concept: Concept): string {
  const methods = [...concept.actions.values(), ...concept.queries.values()];
  const kinds = new Set<string>();
  for (const { input, output } of methods)
    for (const { type } of [...input, ...output]) idsOf(type, kinds);
  const names = [...kinds].sort();
  const lines = [
    `concept ${concept.name}${names.length > 0 ? ` [${names.join(", ")}]` : ""}`,
    "purpose",
    `    ${concept.purpose}`,
    "principle",
    `    ${concept.principle}`,
    "state",
    "    the collections of the class",
  ];
  if (concept.actions.size > 0)
    lines.push("actions", ...[...concept.actions.values()].flatMap(actionLines));
  if (concept.queries.size > 0)
    lines.push("queries", ...[...concept.queries.values()].map(queryLine));
  return `${lines.join("\n")}\n`;
}

function idsOf(type: Type, into: Set<string>): void {
  if (type.is === "id") into.add(type.name);
  else if (type.is === "list" || type.is === "nullable") idsOf(type.of, into);
  else if (type.is === "record") for (const field of type.fields) idsOf(field.type, into);
}

const list = (fields: Field[]): string => `(${fields.map(fieldText).join(", ")})`;

function actionLines({
  name,
  input,
  output,
  canFail,
  writes,
  effects,
  requires,
}: Method): string[] {
  const lines = [`    ${name} ${list(input)} : ${list(output)}`];
  if (writes) lines.push(`        effects ${effects ?? "writes to its collections"}`);
  if (canFail) {
    lines.push(`    ${name} ${list(input)} : (error: String)`);
    const condition =
      requires && !/^true\b/i.test(requires) ? `not: ${requires}` : "the action is not possible";
    lines.push(`        requires ${condition}`);
  }
  return lines;
}

function queryLine({ name, input, output, rows }: Method): string {
  return `    ${name} ${list(input)} : ${list(output)}${rows}`;
}
