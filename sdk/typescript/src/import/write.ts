/** Writes the application directory. */

import { mkdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import type { Concept } from "./concepts.js";
import type { Project } from "./project.js";
import { ruleText, wrap, type Rule } from "./rule.js";
import type { Routes } from "./routes.js";
import type { RuleFile } from "./rules.js";
import { specText } from "./specs.js";

/** What to write, and where. */
export interface Application {
  project: Project;
  concepts: ReadonlyMap<string, Concept>;
  files: RuleFile[];
  routes: Routes;
  /** Number of answers that were added. */
  answers: number;
  /** Whether to open the routes of the table. */
  open: boolean;
  directory: string;
  /** Path or version of the package `concert-worker`. */
  sdk: string;
}

/** A source file that is not copied as it is, or not at all, and the reason. */
export interface Replaced {
  file: string;
  reason: string;
}

/** Runs a worker on Node.js, with the imports of Deno projects. */
const COMMAND = ["node", "--import", "tsx", "--import", "concert-worker/deno"];

const SHIM = `// The source file opens a database of its own. Classes need only this function.
import { randomUUID } from "node:crypto";

/** Creates an ID that is greater than earlier ones: a UUID of version 7. */
export function freshID(): any {
  const time = Date.now().toString(16).padStart(12, "0");
  return \`\${time.slice(0, 8)}-\${time.slice(8)}-7\${randomUUID().slice(15)}\`;
}
`;

/** Writes all files. Returns the source files that were replaced. */
export function writeApplication(application: Application): Replaced[] {
  const { project, concepts, files, routes, directory } = application;
  const put = (path: string, text: string): void => {
    const file = join(directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  };
  for (const concept of concepts.values()) {
    put(`concepts/${concept.name}.concept`, specText(concept));
    put(`workers/${kebab(concept.name)}.ts`, workerText(application, concept));
  }
  for (const { path, rules } of files) {
    const from = relative(project.root, path);
    const to = relative(join(project.root, "src/syncs"), path).replace(/\.sync\.ts$/, ".sync");
    put(`syncs/${to}`, [`// Imported from ${from}.\n`, ...rules.map(ruleOrReason)].join("\n"));
  }
  if (routes.open.length > 0) put("syncs/passthrough.sync", routesText(application));
  put("concert.toml", configText(application));
  const { copied, replaced, packages } = copySources(application);
  for (const [path, text] of copied) put(path, text);
  put("package.json", packageText(application, packages));
  put("deno.json", `${JSON.stringify({ imports: project.imports }, null, 2)}\n`);
  return replaced;
}

function ruleOrReason(rule: Rule): string {
  if (rule.then.length > 0) return ruleText(rule);
  const { file, line } = rule.place;
  const reason = `${rule.name} (${file}:${line}): ${rule.verdict}: ${rule.notes.join("; ")}`;
  return `${wrap(reason)
    .map((of) => `// ${of}`)
    .join("\n")}\n`;
}

function routesText({ routes, open }: Application): string {
  const [first] = routes.open;
  const head = [
    `// Open routes of ${first!.place.file}.`,
    "// Every client can call them, also for the data of others.",
    ...(open ? [] : ["// They are closed: remove the comment signs to open one."]),
  ];
  const parts = routes.open.map(({ path, reason, rule }) => {
    const text = rule ? ruleText(rule) : `// ${path} is not translated: ${reason}\n`;
    return open || !rule ? text : text.replaceAll(/^(?=.)/gm, "// ");
  });
  return [`${head.join("\n")}\n`, ...parts].join("\n");
}

function configText({ project, concepts }: Application): string {
  const name = basename(project.root)
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");
  const workers = [...concepts.values()].map(({ name: concept, file }) => {
    const worker = `workers/${kebab(concept)}.ts`;
    const command = [...COMMAND, worker].map((of) => JSON.stringify(of)).join(", ");
    const watch = [worker, relative(project.root, file)].map((of) => JSON.stringify(of)).join(", ");
    return `[workers.${concept}]\ncommand = [${command}]\nwatch = [${watch}]\n`;
  });
  const http = `[http]\n# The source sends refusals with the status 200.\nrefusals = "200"\n`;
  return [`[app]\nname = "${name || "imported"}"\n`, http, ...workers].join("\n");
}

function workerText({ project }: Application, concept: Concept): string {
  const path = relative(project.root, concept.file);
  const name = concept.className;
  const methods = [...concept.queries.values()].filter((of) => of.method !== of.name);
  const options: string[] = [];
  if (methods.length > 0) {
    options.push(`methods: { ${methods.map((of) => `${of.name}: "${of.method}"`).join(", ")} }`);
  }
  const needs = concept.verdict.verdict === "needs a service" ? concept.verdict.why : [];
  if (needs.length > 0) options.push("external: true");
  if (concept.takesClient) options.push(`create: (db) => new ${name}(db, clientOf(db))`);
  const extra = options.length > 0 ? `, { ${options.join(", ")} }` : "";
  const comment = needs
    .flatMap((why) => wrap(`The class needs a service: ${why}.`))
    .map((of) => `// ${of}\n`);
  const imported = concept.isDefault ? name : `{ ${name} }`;
  const names = concept.takesClient ? "clientOf, Worker" : "Worker";
  return `import { ${names} } from "concert-worker";
import ${imported} from "../${path}";

${comment.join("")}await Worker.ofClass(${name}, "concepts/${concept.name}.concept"${extra}).main();
`;
}

function kebab(name: string): string {
  return name.replaceAll(/(?<=[a-z0-9])(?=[A-Z])/g, "-").toLowerCase();
}

interface Sources {
  copied: Map<string, string>;
  replaced: Replaced[];
  packages: Map<string, string>;
}

/** The classes and the files of the project that they import. */
function copySources({ project, concepts }: Application): Sources {
  const found: Sources = { copied: new Map(), replaced: [], packages: new Map() };
  const visit = (path: string): void => {
    const name = relative(project.root, path);
    if (found.copied.has(name)) return;
    const file = project.source(path)!;
    const { text } = file;
    const isHelper = ![...concepts.values()].some((of) => of.file === path);
    const opensDatabase = isHelper && /\bMongoClient\b/.test(text) && /\bfreshID\b/.test(text);
    found.copied.set(name, opensDatabase ? SHIM : text);
    if (opensDatabase) {
      found.replaced.push({ file: name, reason: "it opens a database; only `freshID` remains" });
      return;
    }
    for (const specifier of project.modules(file).keys()) {
      const target = project.resolve(path, specifier);
      if (target) visit(target);
      else addPackage(project.imports[specifier] ?? specifier, found.packages);
    }
  };
  for (const { file } of concepts.values()) visit(file);
  return found;
}

/** Name and version of a package, from `npm:name@version/path`, `jsr:@scope/name` or `name`. */
function addPackage(specifier: string, into: Map<string, string>): void {
  const parts = /^(npm:|jsr:)?\/?((?:@[^/]+\/)?[^/@]+)(?:@([^/]+))?/.exec(specifier);
  if (!parts || specifier.startsWith("node:")) return;
  const [, scheme, name, version = "*"] = parts;
  if (scheme === "jsr:")
    into.set(name!, `npm:@jsr/${name!.slice(1).replace("/", "__")}@${version}`);
  else into.set(name!, version);
}

function packageText({ sdk }: Application, packages: Map<string, string>): string {
  const isPath = /^[./]/.test(sdk);
  const dependencies = {
    "concert-worker": isPath ? `file:${resolve(sdk)}` : sdk,
    mongodb: "^7.9.0",
    tsx: "^4.23.0",
    ...Object.fromEntries([...packages].sort()),
  };
  const text = { private: true, type: "module", dependencies };
  return `${JSON.stringify(text, null, 2)}\n`;
}
