/** Imports a project: reads it, writes the application, checks it, and writes the report. */

import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { addAnswers } from "./answers.js";
import { readConcepts } from "./concepts.js";
import { Project } from "./project.js";
import { readRoutes } from "./routes.js";
import { readRules } from "./rules.js";
import { format, report, runCheck } from "./report.js";
import { declareSecrets } from "./secrets.js";
import { writeApplication, type Application } from "./write.js";

/** Options of an import. */
export interface Options {
  project: string;
  directory: string;
  answers: boolean;
  open: boolean;
  secrets: boolean;
  accept: string[];
  concert: string;
  sdk: string;
}

/** Imports a project. Returns the summary, and whether nothing is left to do. */
export function importProject(options: Options): { summary: string; isDone: boolean } {
  const project = new Project(resolve(options.project));
  const directory = resolve(options.directory);
  if (!existsSync(join(project.root, "src/concepts"))) {
    throw new Error(`${project.root} has no src/concepts; name the root of the project`);
  }
  if (existsSync(directory) && readdirSync(directory).length > 0) {
    throw new Error(`${directory} is not empty; name a new directory`);
  }
  const concepts = readConcepts(project);
  const files = readRules(project, concepts, options.answers);
  const paths = files
    .flatMap(({ rules }) => rules.flatMap(({ when }) => when.flatMap(({ input }) => input)))
    .filter(({ key, value }) => key === "path" && value.startsWith('"'))
    .map(({ value }) => JSON.parse(value) as string);
  const routes = readRoutes(project, concepts, new Set(paths));
  if (options.secrets) declareSecrets(concepts, files);
  const answers = options.answers ? addAnswers(files, concepts) : 0;
  const application: Application = {
    project,
    concepts,
    files,
    routes,
    answers,
    open: options.open,
    directory,
    sdk: options.sdk,
  };
  const replaced = writeApplication(application);
  format(options.concert, join(directory, "syncs"));
  const check = runCheck(options.concert, directory);
  const { text, summary, isDone } = report(application, replaced, check, new Set(options.accept));
  writeFileSync(join(directory, "IMPORT.md"), text);
  return { summary, isDone };
}
