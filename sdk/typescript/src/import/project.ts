/** Files of a project of the concept and synchronization style, parsed once. */

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import ts from "@typescript/typescript6";

/** A place in a source file; lines begin at 1. */
export interface Place {
  file: string;
  line: number;
}

/** A construct that the importer does not translate. */
export class ByHand extends Error {
  constructor(
    readonly construct: string,
    readonly node: ts.Node,
  ) {
    super(construct);
  }
}

/** A rule or class that cannot work in the source project either. */
export class Broken extends Error {
  constructor(
    message: string,
    readonly node: ts.Node,
  ) {
    super(message);
  }
}

/** A declaration that another file may import. */
export type Declaration =
  | ts.InterfaceDeclaration
  | ts.TypeAliasDeclaration
  | ts.EnumDeclaration
  | ts.ClassDeclaration
  | ts.FunctionDeclaration
  | ts.VariableDeclaration;

const SKIPPED = new Set(["node_modules", ".git", "dist"]);

/** The files of a project. */
export class Project {
  readonly #files = new Map<string, ts.SourceFile | null>();
  readonly imports: Record<string, string>;

  constructor(readonly root: string) {
    this.imports = importMap(root);
  }

  /** Files below a directory of the project whose names end with `ending`, sorted. */
  find(directory: string, ending: string): string[] {
    const found: string[] = [];
    const visit = (path: string): void => {
      for (const name of readdirSync(path).sort()) {
        const file = join(path, name);
        if (name.startsWith(".") || SKIPPED.has(name)) continue;
        if (statSync(file).isDirectory()) visit(file);
        else if (name.endsWith(ending)) found.push(file);
      }
    };
    const path = join(this.root, directory);
    if (existsSync(path)) visit(path);
    return found;
  }

  /** A parsed file; `null` if it does not exist. */
  source(path: string): ts.SourceFile | null {
    let file = this.#files.get(path);
    if (file === undefined) {
      file = null;
      if (existsSync(path) && statSync(path).isFile()) {
        const text = readFileSync(path, "utf8");
        file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
      }
      this.#files.set(path, file);
    }
    return file;
  }

  /** The place of a node, with a path relative to the project. */
  place(node: ts.Node): Place {
    const file = node.getSourceFile();
    const { line } = file.getLineAndCharacterOfPosition(node.getStart(file));
    return { file: relative(this.root, file.fileName), line: line + 1 };
  }

  /** The file of an import; `null` if it is not in the project. */
  resolve(from: string, specifier: string): string | null {
    let path = specifier.startsWith(".") ? resolve(dirname(from), specifier) : null;
    for (const [prefix, target] of Object.entries(this.imports)) {
      if (path !== null || !target.startsWith(".")) continue;
      if (specifier === prefix) path = resolve(this.root, target);
      else if (prefix.endsWith("/") && specifier.startsWith(prefix)) {
        path = resolve(this.root, target, specifier.slice(prefix.length));
      }
    }
    if (path === null) return null;
    const candidates = [path, `${path}.ts`, path.replace(/\.js$/, ".ts"), join(path, "index.ts")];
    return candidates.find((of) => existsSync(of) && statSync(of).isFile()) ?? null;
  }

  /** The declaration that a name has in a file, also if it is imported from another file. */
  declaration(file: ts.SourceFile, name: string, depth = 0): Declaration | null {
    for (const statement of file.statements) {
      if (ts.isVariableStatement(statement)) {
        const found = statement.declarationList.declarations.find(
          (of) => ts.isIdentifier(of.name) && of.name.text === name,
        );
        if (found) return found;
      } else if (isDeclaration(statement) && statement.name?.text === name) {
        return statement;
      }
    }
    if (depth > 8) return null;
    for (const statement of file.statements) {
      const isLink = ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement);
      if (!isLink || !statement.moduleSpecifier) continue;
      const from = importedName(statement, name);
      const path = (statement.moduleSpecifier as ts.StringLiteral).text;
      const target = from === null ? null : this.resolve(file.fileName, path);
      const other = target === null ? null : this.source(target);
      const found = other && this.declaration(other, from!, depth + 1);
      if (found) return found;
    }
    return null;
  }

  /** Specifiers of the modules that a file imports for values, and the names that it imports. */
  modules(file: ts.SourceFile): Map<string, string[]> {
    const found = new Map<string, string[]>();
    for (const statement of file.statements) {
      if (!ts.isImportDeclaration(statement) || statement.importClause?.isTypeOnly) continue;
      const names: string[] = [];
      const { name, namedBindings } = statement.importClause ?? {};
      if (name) names.push(name.text);
      if (namedBindings && ts.isNamedImports(namedBindings)) {
        names.push(
          ...namedBindings.elements.filter((of) => !of.isTypeOnly).map((of) => of.name.text),
        );
      } else if (namedBindings) names.push(namedBindings.name.text);
      const isUsed = !statement.importClause || names.some((of) => isValue(file, of));
      if (isUsed) found.set((statement.moduleSpecifier as ts.StringLiteral).text, names);
    }
    return found;
  }
}

/** The name that a file has on the other side of an import or export; `null` if it has none. */
function importedName(
  statement: ts.ImportDeclaration | ts.ExportDeclaration,
  name: string,
): string | null {
  if (ts.isExportDeclaration(statement)) {
    if (!statement.exportClause) return name;
    if (!ts.isNamedExports(statement.exportClause)) return null;
    const found = statement.exportClause.elements.find((of) => of.name.text === name);
    return found ? (found.propertyName ?? found.name).text : null;
  }
  const { namedBindings } = statement.importClause ?? {};
  if (!namedBindings || !ts.isNamedImports(namedBindings)) return null;
  const found = namedBindings.elements.find((of) => of.name.text === name);
  return found ? (found.propertyName ?? found.name).text : null;
}

function isDeclaration(node: ts.Node): node is Exclude<Declaration, ts.VariableDeclaration> {
  return (
    ts.isInterfaceDeclaration(node) ||
    ts.isTypeAliasDeclaration(node) ||
    ts.isEnumDeclaration(node) ||
    ts.isClassDeclaration(node) ||
    ts.isFunctionDeclaration(node)
  );
}

/** Reports whether a file uses an imported name as a value, not only in types. */
function isValue(file: ts.SourceFile, name: string): boolean {
  let isFound = false;
  const visit = (node: ts.Node): void => {
    if (isFound || ts.isImportDeclaration(node) || ts.isTypeNode(node)) return;
    if (ts.isIdentifier(node) && node.text === name && !ts.isPropertyAssignment(node.parent)) {
      const isMember = ts.isPropertyAccessExpression(node.parent) && node.parent.name === node;
      if (!isMember) isFound = true;
    }
    ts.forEachChild(node, visit);
  };
  ts.forEachChild(file, visit);
  return isFound;
}

/** The import map of `deno.json`, and the paths of `tsconfig.json` in the same form. */
function importMap(root: string): Record<string, string> {
  const read = (name: string): Record<string, unknown> => {
    const path = join(root, name);
    if (!existsSync(path)) return {};
    const { config } = ts.parseConfigFileTextToJson(path, readFileSync(path, "utf8"));
    return (config ?? {}) as Record<string, unknown>;
  };
  const options = (read("tsconfig.json")["compilerOptions"] ?? {}) as { paths?: object };
  const paths = Object.entries(options.paths ?? {}).map(([prefix, [target]]) => [
    prefix.replace(/\*$/, ""),
    `./${String(target).replace(/^\.\//, "").replace(/\*$/, "")}`,
  ]);
  const deno = { ...read("deno.jsonc"), ...read("deno.json") }["imports"];
  return { ...Object.fromEntries(paths), ...(deno as Record<string, string> | undefined) };
}

/** Name of a concept from a file or class: `LibraryConcept` is `Library`. */
export function conceptName(name: string): string {
  return basename(name, ".ts").replace(/Concept$/, "");
}

/** The expression without parentheses, assertions and `await`. */
export function bare(node: ts.Expression): ts.Expression {
  let at = node;
  while (
    ts.isParenthesizedExpression(at) ||
    ts.isAsExpression(at) ||
    ts.isNonNullExpression(at) ||
    ts.isSatisfiesExpression(at) ||
    ts.isTypeAssertionExpression(at) ||
    ts.isAwaitExpression(at)
  ) {
    at = at.expression;
  }
  return at;
}

/** Text of a property name; `null` if it is computed. */
export function keyOf(name: ts.PropertyName | ts.BindingName): string | null {
  return ts.isIdentifier(name) || ts.isStringLiteral(name) ? name.text : null;
}

/** Text of a node for a report: one line, at most 60 characters. */
export function excerpt(node: ts.Node): string {
  const text = node.getText().replaceAll(/\s+/g, " ");
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}
