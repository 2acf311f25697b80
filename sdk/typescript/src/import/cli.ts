#!/usr/bin/env node
/** `concert-import`: writes an application directory for a project of the TypeScript engine. */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { importProject } from "./import.js";

/** The package of this command, in the file `dist/src/import/cli.js`. */
const PACKAGE = fileURLToPath(new URL("../../..", import.meta.url));

const USAGE = `Writes an application directory for a project of the TypeScript engine

Usage: concert-import [OPTIONS] <PROJECT> <DIRECTORY>

Arguments:
  <PROJECT>    Directory that contains src/concepts and src/syncs
  <DIRECTORY>  New or empty directory of the application

Options:
      --answers         Add the answers that the rules do not give, marked as added
      --open            Open the routes of the passthrough table
      --secrets         Declare inputs with names such as "password" as secrets
      --accept <NAME>   Accept a rule, a concept or a result such as "changed"; repeatable
      --concert <PATH>  Program that checks the result [default: concert]
      --sdk <VALUE>     Version or path of the package concert-worker [default: the path of the
                        package that contains this command]
  -h, --help            Print help

Exits with 1 unless every rule is exact or accepted, every class runs or is accepted, and
\`concert check\` reports no error. The report is IMPORT.md in the directory.`;

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      answers: { type: "boolean", default: false },
      open: { type: "boolean", default: false },
      secrets: { type: "boolean", default: false },
      accept: { type: "string", multiple: true, default: [] },
      concert: { type: "string", default: "concert" },
      sdk: { type: "string", default: PACKAGE },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const { help, ...options } = values;
  const [project, directory] = positionals;
  if (help) {
    console.log(USAGE);
    return 0;
  }
  if (project === undefined || directory === undefined || positionals.length > 2) {
    throw new Error("name the project and the new directory; see --help");
  }
  const { summary, isDone } = importProject({ project, directory, ...options });
  console.log(`${summary}\n\nThe report is ${join(directory, "IMPORT.md")}`);
  return isDone ? 0 : 1;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
}
