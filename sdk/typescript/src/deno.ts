/**
 * Resolves the imports of Deno projects on Node.js: `npm:` and `jsr:` specifiers, and the import
 * map of the `deno.json` in the current directory.
 *
 * Use: `node --import tsx --import concert-worker/deno`.
 */

import { register } from "node:module";

register("./deno-hooks.js", import.meta.url);
