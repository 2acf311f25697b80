/** Declares passwords as secrets, so that they are encrypted wherever they are stored. */

import type { Concept } from "./concepts.js";
import type { Pattern, Rule } from "./rule.js";
import type { RuleFile } from "./rules.js";
import { isPlain, type Field } from "./types.js";

const NAME = /password|passphrase|secret/i;

/** An input that looks like a secret. */
export interface Candidate {
  concept: string;
  action: string;
  field: Field;
}

/** Inputs of actions that look like passwords and are strings. */
export function candidates(concepts: ReadonlyMap<string, Concept>): Candidate[] {
  return [...concepts.values()].flatMap(({ name: concept, actions }) =>
    [...actions.values()].flatMap(({ name: action, input }) =>
      input
        .filter(({ name, type }) => NAME.test(name) && isPlain(type, "String"))
        .map((field) => ({ concept, action, field })),
    ),
  );
}

/**
 * Declares the candidates as `Secret`. Rules cannot compare secrets, so patterns of `when` no longer
 * name one that the rule does not pass on, or that another pattern of the rule binds.
 */
export function declareSecrets(concepts: ReadonlyMap<string, Concept>, files: RuleFile[]): void {
  const found = candidates(concepts);
  for (const { field } of found) field.type = { is: "plain", name: "Secret" };
  const isSecret = ({ concept, action }: Pattern, key: string): boolean =>
    concept === "Requesting"
      ? NAME.test(key)
      : found.some((of) => of.concept === concept && of.action === action && of.field.name === key);
  for (const rule of files.flatMap(({ rules }) => rules)) stopComparing(rule, isSecret);
}

function stopComparing(rule: Rule, isSecret: (of: Pattern, key: string) => boolean): void {
  const passed = JSON.stringify([rule.where, rule.then]);
  const isPassed = (name: string): boolean => new RegExp(`\\b${name}\\b`).test(passed);
  const bound = new Set<string>();
  const dropped = new Set<string>();
  for (const pattern of rule.when) {
    pattern.input = pattern.input.filter(({ key, value }) => {
      if (!isSecret(pattern, key)) return true;
      if (isPassed(value) && !bound.has(value)) {
        bound.add(value);
        return true;
      }
      // A request that only names the key needs no comparison.
      if (pattern.concept !== "Requesting") dropped.add(value);
      return false;
    });
  }
  for (const name of dropped) rule.notes.push(`the secret \`${name}\` is not compared`);
  if (dropped.size > 0 && rule.verdict === "exact") rule.verdict = "changed";
}
