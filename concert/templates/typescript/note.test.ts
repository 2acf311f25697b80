/** Tests Note over HTTP: `concert dev --start 'npm test'`. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

const api = process.env["CONCERT_API"] ?? "http://127.0.0.1:8000/api";

/** Sends a request, and returns status and body of the response. */
async function post(path: string, body: object): Promise<[number, Record<string, unknown>]> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(api + path, { method: "POST", headers, body: JSON.stringify(body) });
  return [response.status, (await response.json()) as Record<string, unknown>];
}

test("is found until it is deleted", async () => {
  const writer = randomUUID();
  const [status, created] = await post("/note/create", { writer, text: "Hello" });
  assert.equal(status, 200);
  const id = created["note"];
  const found = [{ note: id, text: "Hello" }];
  assert.deepEqual(await post("/note/find", { writer }), [200, { found }]);
  assert.equal((await post("/note/delete", { note: id }))[0], 200);
  assert.deepEqual(await post("/note/find", { writer }), [200, { found: [] }]);
  assert.equal((await post("/note/delete", { note: id }))[0], 404);
});

test("empty text is refused", async () => {
  const refused = await post("/note/create", { writer: "ada", text: "" });
  assert.deepEqual(refused, [400, { error: "The text is empty" }]);
});
