import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { MongoServerError, type ClientSession } from "mongodb";
import { mapped, packageOf } from "../src/deno-hooks.js";
import { Calls } from "../src/external.js";
import { Spec } from "../src/spec.js";
import { Transaction, type Caught } from "../src/transaction.js";
import { resultOf, rowsOf } from "../src/worker.js";

const SPEC = Spec.parse(
  "concept Names\nqueries\n    _all () : (name: String)*\n    _both () : (name: String, age: Number)*\n",
);

test("results of methods in other forms", () => {
  const [all, both] = [SPEC.queries.get("_all")!, SPEC.queries.get("_both")!];
  assert.deepEqual(rowsOf(all, ["a", "b"]), [{ name: "a" }, { name: "b" }]);
  assert.deepEqual(rowsOf(all, null), []);
  assert.deepEqual(rowsOf(both, { name: "a", age: 1 }), [{ name: "a", age: 1 }]);
  assert.deepEqual(rowsOf(both, [{ error: "none" }]), []);
  assert.deepEqual(resultOf({ list: [], error: "none" }), { error: "none" });
  assert.deepEqual(resultOf({ user: "a", error: undefined }), { user: "a" });
  assert.deepEqual(resultOf([{ user: "a" }]), { user: "a" });
  assert.deepEqual(resultOf(undefined), {});
});

test("a caught duplicate key is raised again without the operation", async () => {
  const duplicate = new MongoServerError({ message: "E11000", code: 11000 });
  const caught = new Map<number, Caught>();
  const run = async (): Promise<[string[], boolean]> => {
    const done: string[] = [];
    const transaction = new Transaction({} as ClientSession, caught, null);
    await transaction
      .run("users.insertOne", async () => {
        done.push("insert");
        throw duplicate;
      })
      .catch(() => {});
    await transaction.run("users.findOne", async () => done.push("find"));
    await transaction.idle();
    return [done, transaction.hasCaught()];
  };
  assert.deepEqual(await run(), [["insert", "find"], true]);
  assert.deepEqual(await run(), [["find"], false]);
});

test("calls of a service are made between runs, and once", async () => {
  let requests = 0;
  const server = createServer((_, response) => response.end(String(++requests)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const calls = new Calls();
  const action = async (): Promise<string> => {
    const texts = await Promise.all(
      [1, 2].map(async (at) => (await calls.fetch(`${url}${at}`)).text()),
    );
    const last = await (await calls.fetch(`${url}3`)).text();
    return [...texts.sort(), last].join();
  };
  let runs = 0;
  let result: string | void;
  do {
    const suspended = calls.begin();
    runs++;
    result = await Promise.race([action(), suspended]);
    if (result === undefined) await calls.make();
  } while (result === undefined);
  server.close();
  assert.deepEqual([result, runs, requests], ["1,2,3", 3, 3]);
});

test("an action whose calls differ from run to run fails", async () => {
  const calls = new Calls();
  for (let run = 0; run < 50; run++) {
    const suspended = calls.begin();
    void calls.fetch(`http://127.0.0.1:1/${run}`);
    await suspended;
    await calls.make();
  }
  await assert.rejects(calls.make(), /or other calls in each run/);
});

test("imports of Deno projects", () => {
  const map = { "@utils/": "./src/utils/", mongodb: "npm:mongodb@^6" };
  assert.equal(mapped("@utils/types.ts", map), "./src/utils/types.ts");
  assert.equal(packageOf(mapped("mongodb", map)), "mongodb");
  assert.equal(packageOf("npm:@a/b@1.2/c.js"), "@a/b/c.js");
  assert.equal(packageOf("jsr:@std/uuid@1/v7"), "@jsr/std__uuid/v7");
  assert.equal(packageOf("./local.ts"), "./local.ts");
});
