/** Module hooks of `concert-worker/deno`. */

import { existsSync, readFileSync } from "node:fs";
import type { ResolveHook } from "node:module";
import { resolve as resolvePath } from "node:path";
import { pathToFileURL } from "node:url";

const PACKAGE = /^(npm|jsr):\/?((?:@[^/]+\/)?[^/@]+)(?:@[^/]+)?(\/.*)?$/;

const imports: Record<string, string> = existsSync("deno.json")
  ? (JSON.parse(readFileSync("deno.json", "utf8")).imports ?? {})
  : {};

/** The target of a specifier in an import map; the longest prefix decides. */
export function mapped(specifier: string, map: Record<string, string>): string {
  if (Object.hasOwn(map, specifier)) return map[specifier]!;
  const prefixes = Object.keys(map).filter((of) => of.endsWith("/") && specifier.startsWith(of));
  const [prefix] = prefixes.sort((a, b) => b.length - a.length);
  return prefix === undefined ? specifier : map[prefix]! + specifier.slice(prefix.length);
}

/** The name of a package as `package.json` has it; packages of JSR are in the scope `@jsr`. */
export function packageOf(specifier: string): string {
  const found = PACKAGE.exec(specifier);
  if (!found) return specifier;
  const [, scheme, name, path = ""] = found;
  return scheme === "jsr" ? `@jsr/${name!.slice(1).replace("/", "__")}${path}` : `${name}${path}`;
}

export const resolve: ResolveHook = (specifier, context, next) => {
  const target = mapped(specifier, imports);
  const isPath = target !== specifier && target.startsWith(".");
  return next(isPath ? pathToFileURL(resolvePath(target)).href : packageOf(target), context);
};
