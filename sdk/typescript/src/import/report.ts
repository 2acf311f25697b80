/** The report of an import. */

import { spawnSync } from "node:child_process";
import { candidates } from "./secrets.js";
import type { Application, Replaced } from "./write.js";
import type { Rule, Verdict } from "./rule.js";

/** The findings of `concert check`. */
export interface Check {
  /** Why there are none. */
  missing: string | null;
  errors: number;
  warnings: number;
  findings: { code: string; severity: string; message: string; file: string; line: number }[];
}

/** Runs `concert check` on the directory. */
export function runCheck(program: string, directory: string): Check {
  const none = { errors: 0, warnings: 0, findings: [] };
  const done = spawnSync(program, ["check", "--format", "json"], {
    cwd: directory,
    encoding: "utf8",
  });
  if (done.error) return { ...none, missing: `cannot run \`${program}\`: ${done.error.message}` };
  try {
    const { errors, warnings, diagnostics } = JSON.parse(done.stdout);
    return { missing: null, errors, warnings, findings: diagnostics };
  } catch {
    return { ...none, missing: `\`${program} check\` failed: ${done.stderr.trim()}` };
  }
}

/** Formats rules, if the program is available. */
export function format(program: string, directory: string): void {
  spawnSync(program, ["fmt", directory], { stdio: "ignore" });
}

/** What the import found, and whether everything is exact or accepted. */
export interface Outcome {
  text: string;
  summary: string;
  isDone: boolean;
}

const VERDICTS: Verdict[] = ["exact", "changed", "by hand", "broken at the source", "added"];

/** Writes the report. `accepted` are names of rules and concepts, or verdicts. */
export function report(
  application: Application,
  replaced: Replaced[],
  check: Check,
  accepted: ReadonlySet<string>,
): Outcome {
  const { project, concepts, files, routes, open } = application;
  const rules = files.flatMap((of) => of.rules);
  const counts = VERDICTS.map(
    (of) => [of, rules.filter(({ verdict }) => verdict === of).length] as const,
  );
  const ruleLine = counts
    .filter(([, count]) => count > 0)
    .map(([of, count]) => `${count} ${of}`)
    .join(", ");
  const classes = [...concepts.values()];
  const isAccepted = (rule: Rule): boolean =>
    ["exact", "added"].includes(rule.verdict) ||
    accepted.has(rule.name) ||
    accepted.has(rule.verdict);
  const openRules = rules.filter((of) => !isAccepted(of));
  const openClasses = classes.filter(
    ({ name, verdict }) =>
      verdict.verdict !== "runs" && !accepted.has(name) && !accepted.has(verdict.verdict),
  );
  const runs = classes.filter(({ verdict }) => verdict.verdict === "runs").length;
  const checked = check.missing ?? `${check.errors} errors, ${check.warnings} warnings`;
  const summary = [
    `rules: ${ruleLine || "none"}`,
    `classes: ${runs} of ${classes.length} run`,
    ...(application.answers > 0 ? [`answers: ${application.answers} added`] : []),
    `open routes: ${routes.open.length} in the table, ${open ? "opened" : "closed"}`,
    `concert check: ${checked}`,
  ].join("\n");
  const lines = [
    `# Import of ${project.root.split("/").at(-1)}`,
    "",
    "```text",
    summary,
    "```",
    "",
  ];
  const section = (title: string, body: string[]): void => {
    if (body.length > 0) lines.push(`## ${title}`, "", ...body, "");
  };
  section("Rules", [
    "| rule | result | place | reason |",
    "|---|---|---|---|",
    ...rules.map((rule) => {
      const { name, verdict, place, notes } = rule;
      const result =
        isAccepted(rule) && !["exact", "added"].includes(verdict)
          ? `${verdict}, accepted`
          : verdict;
      const reasons = notes.map(cell).join("; ");
      return `| ${name} | ${result} | ${place.file}:${place.line} | ${reasons} |`;
    }),
  ]);
  section("Classes", [
    "| class | result | reason |",
    "|---|---|---|",
    ...classes.map(({ name, verdict }) => {
      const why = "why" in verdict ? verdict.why.map(cell).join("; ") : "";
      return `| ${name} | ${verdict.verdict} | ${why} |`;
    }),
  ]);
  section(
    "Methods that are left out",
    classes.flatMap(({ name, omitted }) =>
      omitted.map((of) => `- ${name}.${of.name} (${of.place.file}:${of.place.line}): ${of.reason}`),
    ),
  );
  section(
    "Types that became `Any`",
    classes.flatMap(({ loose }) =>
      loose.map((of) => `- ${of.file}:${of.line}: \`${of.what}\`: ${of.reason}`),
    ),
  );
  section(
    "Values to declare as `Secret`, for example with `--secrets`",
    candidates(concepts).map(
      ({ concept, action, field }) =>
        `- ${concept}.${action}: \`${field.name}\` is in clear in the log`,
    ),
  );
  section(
    "Files that are replaced",
    replaced.map(({ file, reason }) => `- ${file}: ${reason}`),
  );
  section("Open routes", [
    ...routes.open.map(({ path, reason, rule }) => {
      const state = rule ? (open ? "opened" : "closed, commented out") : "not translated";
      return `- ${path}: ${state}; ${reason}`;
    }),
    ...routes.unlisted.map(
      (path) => `- ${path}: closed; the source opens it, and has no entry for it`,
    ),
  ]);
  section(
    "Findings of `concert check`",
    check.findings.map(
      ({ severity, code, file, line, message }) =>
        `- ${severity} ${code}, ${file}:${line}: ${message}`,
    ),
  );
  section("Differences that apply to all rules", DIFFERENCES);
  const isDone =
    openRules.length === 0 && openClasses.length === 0 && check.errors === 0 && !check.missing;
  return { text: lines.join("\n"), summary, isDone };
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}

const DIFFERENCES = [
  "- The calls of `then` run in order and stop at a failure.",
  "- A pattern without `error` matches successes only.",
  "- A row with the only key `error` is no row.",
  "- Frames whose calls have equal values are one frame, so these calls are made once. Two equal " +
    "calls of one `then` remain two.",
  "- Failures have the status 200, because of `http.refusals` in `concert.toml`.",
];
