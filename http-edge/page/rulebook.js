// The rules, by version: those in force now, and those that older flows ran under.

import { rows } from "./api.js";

/** How many versions are kept in memory. */
const VERSIONS_AT_MOST = 8;

const known = new Map();
let current = null;

/** The row of `_rules` now: texts, counts and the graph. */
export async function rulesNow() {
  const [row] = await rows("rules");
  if (row) keep(row);
  current = row ?? null;
  return current;
}

/**
 * The rules of a version, by name.
 *
 * @param {string|undefined} version without one, those in force
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
  if (known.size > VERSIONS_AT_MOST) known.delete(known.keys().next().value);
}
