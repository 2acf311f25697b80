/** Queries with several inputs. */

import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { test } from "node:test";
import { eachWithin } from "../src/service.js";

test("inputs of a batch run concurrently up to a limit, and an error ends all", async () => {
  let [running, most, runs] = [0, 0, 0];
  const run = async (item: number): Promise<number> => {
    runs++;
    most = Math.max(most, ++running);
    await setImmediate();
    running--;
    if (item === 90) throw new Error("90");
    return item * 2;
  };
  const numbers = Array.from({ length: 10 }, (_, at) => at);
  assert.deepEqual(await eachWithin(4, numbers, run), numbers.map((of) => of * 2));
  assert.equal(most, 4);
  assert.deepEqual(await eachWithin(4, [], run), []);
  runs = 0;
  await assert.rejects(eachWithin(2, [90, 1, 2, 3, 4, 5], run), /90/);
  await setImmediate();
  assert.ok(runs < 4);
});
