/** Keys are reread from their file. */

import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { KeyFile, parseKeyring, Sealer } from "../src/seal.js";

const FLOW = "0199f0a0-0000-7000-8000-000000000001";
const [K0, K1] = ["A", "B"].map((letter, number) => `k${number} ${letter.repeat(85)}A\n`);
const path = join(mkdtempSync(join(tmpdir(), "keys-")), "seal.key");

/** A clock that the test moves. */
function clock(context: TestContext): { ms: number } {
  const now = { ms: 1000 };
  context.mock.method(performance, "now", () => now.ms);
  return now;
}

test("a key of a later rotation is read", (context) => {
  const now = clock(context);
  writeFileSync(path, K0!);
  const sealer = new Sealer(new KeyFile(path));
  writeFileSync(path, `${K1}${K0}`);
  const other = new Sealer(new KeyFile(path)).seal(FLOW, "sesame");
  assert.match(other, /^sealed:k1:/);
  now.ms += 11;
  assert.equal(sealer.open(FLOW, other), "sesame");
});

test("the current key is read again after a second", (context) => {
  const now = clock(context);
  writeFileSync(path, K0!);
  const sealer = new Sealer(new KeyFile(path));
  writeFileSync(path, `${K1}${K0}`);
  assert.match(sealer.seal(FLOW, "sesame"), /^sealed:k0:/);
  now.ms += 1001;
  assert.match(sealer.seal(FLOW, "sesame"), /^sealed:k1:/);
});

test("an invalid file keeps the keys", (context) => {
  const now = clock(context);
  context.mock.method(console, "error", () => {});
  writeFileSync(path, K0!);
  const keys = new KeyFile(path);
  writeFileSync(path, "k0 short");
  now.ms += 11;
  assert.equal(keys.get("k9"), undefined);
  assert.ok(keys.get("k0"));
});

test("invalid keyrings are rejected", () => {
  for (const text of ["", "# none\n", "k0", `K0 ${"A".repeat(86)}`, `${K0}${K0}`]) {
    assert.throws(() => parseKeyring(text), text);
  }
});
