/** Adds the answers that the source does not give: `else` on steps, and rules for failures. */

import type { Concept } from "./concepts.js";
import {
  answer,
  boundBy,
  LEVELS,
  Names,
  requestPattern,
  type Call,
  type Pattern,
  type Rule,
  type Step,
} from "./rule.js";
import type { RuleFile } from "./rules.js";

const ADDED = "Added by `concert-import --answers`:";
const MARK = `${ADDED} the source gives no answer here.`;
const MARK_ELSE = `${ADDED} the responses of \`else\`.`;

/** Several frames may respond: the edge sends the first response. */
const ALLOW = "allow C0502: the first response counts, as in the source";

/** A rule and its file. */
interface Entry {
  file: RuleFile;
  rule: Rule;
}

/** Adds answers to the translated rules. Returns their number. */
export function addAnswers(files: RuleFile[], concepts: ReadonlyMap<string, Concept>): number {
  const entries = files.flatMap((file) =>
    file.rules.filter(({ then }) => then.length > 0).map((rule) => ({ file, rule })),
  );
  const rules = entries.map(({ rule }) => rule);
  const added: Entry[] = [];
  let count = 0;
  for (const entry of entries) {
    const { rule } = entry;
    const path = pathOf(rule);
    if (path === null) {
      // The rule has no request to respond to, so another rule responds.
      for (const of of reaches(rule, rules) ? pathsOf(rule, rules) : []) {
        const none = noneRule({ ...rule, when: [requestPattern(of), ...rule.when] }, 0);
        if (none) added.push({ file: entry.file, rule: { ...none, name: nameOf(of, none) } });
      }
    }
    if (path === null || requestOf(rule) === null) continue;
    const answers = (of: Rule): boolean => !of.when.some(isFailure) && reaches(of, rules);
    if (!answers(rule)) {
      if (rules.some((of) => of !== rule && pathOf(of) === path && answers(of))) continue;
      const success = successRule(rule, path, concepts);
      if (!success) continue;
      added.push({ file: entry.file, rule: success });
    }
    const [number, none] = addElse(rule);
    count += number;
    if (number > 0) rule.comment.push(MARK_ELSE);
    if (none) added.push({ file: entry.file, rule: none });
  }
  const everything = [...rules, ...added.map(({ rule }) => rule)];
  for (const { file, rule } of entries) {
    for (const path of pathsOf(rule, rules)) {
      for (const failure of failureRules(rule, path, everything, concepts)) {
        added.push({ file, rule: failure });
        everything.push(failure);
      }
    }
  }
  for (const { rule } of entries) {
    if (isMany(rule) && rule.then.some(isResponse)) rule.comment.push(ALLOW);
  }
  for (const { file, rule } of added) file.rules.push(rule);
  return count + added.length;
}

/** The request that a rule waits for. */
function requestIn(rule: Rule): Pattern | undefined {
  return rule.when.find(({ concept, action }) => concept === "Requesting" && action === "request");
}

/** The literal path that a rule waits for. */
function pathOf(rule: Rule): string | null {
  return requestIn(rule)?.input.find(({ key }) => key === "path")?.value ?? null;
}

function requestOf(rule: Rule): string | null {
  return requestIn(rule)?.output.find(({ key }) => key === "request")?.value ?? null;
}

/** Paths whose requests lead to a rule. */
function pathsOf(rule: Rule, rules: Rule[], seen = new Set<Rule>()): string[] {
  const own = pathOf(rule);
  if (own !== null) return [own];
  if (seen.has(rule)) return [];
  seen.add(rule);
  const callers = rules.filter((of) =>
    of.then.some((call) => rule.when.some((on) => isOf(on, call))),
  );
  return [...new Set(callers.flatMap((of) => pathsOf(of, rules, seen)))];
}

const isOf = (pattern: Pattern, call: Call): boolean =>
  pattern.concept === call.concept && pattern.action === call.action;
const isFailure = (pattern: Pattern): boolean => pattern.output.some(({ key }) => key === "error");
const isResponse = (call: Call): boolean =>
  call.concept === "Requesting" && call.action.startsWith("respond");

const givesMany = (step: Step): boolean =>
  (step.step === "query" && step.isMany) || step.step === "each";

/** Reports whether a rule may make its calls several times. */
function isMany({ where }: Rule): boolean {
  return where.some((step, index) => givesMany(step) && !isCollected(where, index));
}

/** Reports whether a rule responds, or calls an action whose success leads to a response. */
function reaches(rule: Rule, rules: Rule[], seen = new Set<Rule>()): boolean {
  if (seen.has(rule)) return false;
  seen.add(rule);
  if (rule.then.some(isResponse)) return true;
  const path = pathOf(rule);
  return rules.some(
    (of) =>
      (path === null || (pathOf(of) ?? path) === path) &&
      rule.then.some((call) => of.when.some((on) => isOf(on, call) && !isFailure(on))) &&
      reaches(of, rules, seen),
  );
}

/** Adds `else` to the steps that may leave nothing; after rows of any number, a rule instead. */
function addElse(rule: Rule): [number, Rule | null] {
  const request = requestOf(rule)!;
  let count = 0;
  for (const [index, step] of rule.where.entries()) {
    if (isCollected(rule.where, index)) continue;
    if (givesMany(step)) return [count, noneRule(rule, index)];
    if (step.step === "query" || step.step === "condition") {
      if (step.answer || (step.step === "query" && (step.isOne || step.isOptional))) {
        continue;
      }
      step.answer = refusal(step, request);
      count++;
    }
  }
  return [count, null];
}

/** Reports whether a later `collect` covers a step. */
function isCollected(steps: Step[], index: number): boolean {
  return steps.some((step, at) => {
    if (step.step !== "collect" || at < index) return false;
    const fields = step.fields.map(({ value }) => value);
    return steps.findIndex((of) => boundBy(of).some((name) => fields.includes(name))) <= index;
  });
}

function refusal(step: Step, request: string): Call {
  let [error, status] = ["the request is not allowed", "403"];
  if (step.step === "query") {
    const isSession = step.input.some(({ key }) => /session|token/i.test(key));
    error = isSession ? "the session is not valid" : `${step.concept}.${step.query} has no result`;
    status = isSession ? "401" : "404";
  }
  return response(request, JSON.stringify(error), status);
}

function response(request: string, error: string, status?: string): Call {
  const args = [{ key: "error", value: error }];
  if (status) args.push({ key: "status", value: status });
  return answer("respond", args, request);
}

/** A rule that responds if the rows after a step are all rejected. */
function noneRule(rule: Rule, from: number): Rule | null {
  const bound = rule.where.slice(from).flatMap(boundBy);
  const [name] = bound;
  if (name === undefined || rule.where.slice(from).some((step) => step.step === "collect"))
    return null;
  const steps = rule.where.map((step): Step => {
    if (step.step !== "query" && step.step !== "condition") return step;
    const { answer: _, ...rest } = step;
    return rest as Step;
  });
  const names = new Names();
  for (const taken of [
    ...rule.when.flatMap((of) => [...of.input, ...of.output]).map(({ value }) => value),
    ...rule.where.flatMap(boundBy),
  ]) {
    names.fresh(taken);
  }
  const as = names.fresh("found");
  const last = steps.findLastIndex((step) => step.step === "condition" || step.step === "query");
  const kept = steps.slice(0, last + 1);
  return {
    ...rule,
    name: `${rule.name}WithoutResult`,
    comment: [MARK],
    verdict: "added",
    notes: [],
    where: [
      ...kept,
      { step: "collect", fields: [{ key: "", value: name }], as },
      { step: "condition", expr: { text: `${as} == []`, level: LEVELS.compare } },
    ],
    then: [response(requestOf(rule)!, '"nothing fits the request"', "404")],
  };
}

const upper = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1);
const wordsOf = (path: string): string => path.replaceAll('"', "").split(/\W+/).map(upper).join("");

/** A name for a rule of a path, such as `ShelfAddFails` or `SignUpShelfAddFails`. */
function callName(path: string, { concept, action }: Call, outcome: string): string {
  const of = wordsOf(path);
  const call = `${concept}${upper(action)}`;
  return `${of.toLowerCase() === call.toLowerCase() ? call : of + call}${outcome}`;
}

/** A name for the copy of a rule that is for a path. */
function nameOf(path: string, rule: Rule): string {
  return wordsOf(path) + rule.name;
}

function addedRule(rule: Rule, name: string, when: Pattern[], then: Call[]): Rule {
  return {
    name,
    place: rule.place,
    comment: [MARK],
    verdict: "added",
    notes: [],
    when,
    where: [],
    then,
  };
}

/** A rule that responds with the result of the last call of a rule. */
function successRule(
  rule: Rule,
  path: string,
  concepts: ReadonlyMap<string, Concept>,
): Rule | null {
  const last = rule.then.at(-1)!;
  const spec = concepts.get(last.concept)?.actions.get(last.action);
  if (!spec) return null;
  const names = new Names();
  names.fresh("request");
  const output = spec.output
    .filter(({ optional }) => !optional)
    .map(({ name }) => ({ key: name, value: names.fresh(name) }));
  const { concept, action } = last;
  const when = [requestPattern(path), { concept, action, input: [], output }];
  return addedRule(rule, callName(path, last, "Succeeds"), when, [answer("respond", output)]);
}

/** Reports whether a rule responds after an earlier call of `then`, regardless of this one. */
function isAnsweredBefore(rule: Rule, call: Call, path: string, rules: Rule[]): boolean {
  const earlier = rule.then.slice(0, rule.then.indexOf(call));
  return rules.some(
    (of) =>
      of !== rule &&
      (pathOf(of) ?? path) === path &&
      earlier.some((before) => of.when.some((on) => isOf(on, before) && !isFailure(on))) &&
      !of.when.some((on) => isOf(on, call)) &&
      of.then.some(isResponse),
  );
}

/** Rules for the failures of the calls of a rule that no rule handles. */
function failureRules(
  rule: Rule,
  path: string,
  rules: Rule[],
  concepts: ReadonlyMap<string, Concept>,
): Rule[] {
  const made: Rule[] = [];
  for (const call of rule.then) {
    if (isResponse(call)) break;
    const { concept, action } = call;
    if (!concepts.get(concept)?.actions.get(action)?.canFail) continue;
    // A rule that waits for several failures does not handle a single one.
    const isHandled = [...rules, ...made].some(
      (of) =>
        (pathOf(of) ?? path) === path &&
        of.when.filter(isFailure).length === 1 &&
        of.when.some((on) => isOf(on, call) && isFailure(on)),
    );
    if (isHandled || isAnsweredBefore(rule, call, path, rules)) continue;
    const pattern = { concept, action, input: [], output: [{ key: "error", value: "error" }] };
    const when = [requestPattern(path), pattern];
    const failure = addedRule(rule, callName(path, call, "Fails"), when, [
      response("request", "error"),
    ]);
    if (isMany(rule)) failure.comment.push(ALLOW);
    made.push(failure);
  }
  return made;
}
