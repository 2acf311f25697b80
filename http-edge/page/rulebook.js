// Rules by version: the active rules, and those of older flows.

import { rows } from "./api.js";

/** Maximum number of versions in memory. */
const MAX_VERSIONS = 8;

const known = new Map();
let current = null;

/** Current row of `_rules`: texts, counts and the graph. */
export async function rulesNow() {
  const [row] = await rows("rules");
  if (row) keep(row);
  current = row ?? null;
  return current;
}

/**
 * Rules of a version, by name.
 *
 * @param {string|undefined} version default: the active one
 * @returns {Promise<Map<string, object>>}
 */
export async function rulesOf(version) {
  if (version === undefined || version === null) {
    const row = current ?? (await rulesNow());
    return byName(row);
  }
  const kept = known.get(version);
  if (kept) return kept;
  const [row] = await rows(`rules?version=${encodeURIComponent(version)}`);
  if (row) keep(row);
  return byName(row);
}

const byName = (row) => new Map((row?.syncs ?? []).map((sync) => [sync.name, sync]));

function keep(row) {
  known.delete(row.version);
  known.set(row.version, byName(row));
  if (known.size > MAX_VERSIONS) known.delete(known.keys().next().value);
}
