import assert from "node:assert/strict";
import test from "node:test";
import { Client, explain } from "../js/api.js";

function store() {
  const kept = new Map();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => kept.delete(key),
  };
}

/** A client whose requests get these responses; `sent` has the requests. */
function client(...responses) {
  const sent = [];
  const fetch = async (url, init) => {
    sent.push({ url, ...init, body: JSON.parse(init.body) });
    const { status = 200, body = {}, headers = {} } = responses.shift();
    return new Response(typeof body === "string" ? body : JSON.stringify(body), {
      status,
      headers,
    });
  };
  const api = new Client({ fetch, store: store() });
  return { api, sent };
}

const ADA = { user: "u1", username: "ada", session: "s1" };

test("a request is a POST with the session, and its flow is remembered", async () => {
  const { api, sent } = client({ body: [{ a: 1 }], headers: { "concert-flow": "f1" } });
  api.login = ADA;
  assert.deepEqual(await api.call("Library/x", { b: 2 }), [{ a: 1 }]);
  assert.equal(sent[0].url, "/api/Library/x");
  assert.equal(sent[0].method, "POST");
  assert.deepEqual(sent[0].body, { session: "s1", b: 2 });
  assert.deepEqual(api.last, { flow: "f1", path: "Library/x" });
});

test("without a session in the page, the cookie has it", async () => {
  const { api, sent } = client({});
  api.login = { user: "u1", username: "ada" };
  await api.call("x");
  assert.deepEqual(sent[0].body, {});
  assert.equal(sent[0].headers["concert-session"], "cookie");
});

test("a login outlives the page, and unreadable data do not", () => {
  const kept = store();
  new Client({ store: kept }).login = ADA;
  assert.deepEqual(new Client({ store: kept }).login, ADA);
  kept.setItem("reader.login", "{");
  assert.equal(new Client({ store: kept }).login, null);
});

for (const status of [401, 200]) {
  test(`a dead session, told with ${status}, ends the login`, async () => {
    const { api } = client({ status, body: { error: "Session not found" } });
    api.login = ADA;
    let ended = 0;
    api.addEventListener("ended", () => (ended += 1));
    await assert.rejects(api.call("x"), /Your session has ended/);
    assert.equal(api.login, null);
    assert.equal(ended, 1);
  });
}

test("a late refusal does not end a newer login", async () => {
  const { api } = client({ status: 401, body: { error: "Session not found" } });
  api.login = ADA;
  const late = api.call("x");
  api.login = { ...ADA, session: "s2" };
  await assert.rejects(late);
  assert.equal(api.login.session, "s2");
});

test("a wrong password is no dead session", async () => {
  const { api } = client({ status: 401, body: { error: "Invalid username or password." } });
  api.login = ADA;
  await assert.rejects(api.call("x"), /Invalid username or password\./);
  assert.deepEqual(api.login, ADA);
});

test("refusals in a list with 200 are errors, lists without are not", async () => {
  const { api } = client({ body: [{ error: "Library not found." }] }, { body: [] });
  await assert.rejects(api.call("x"), /Library not found\./);
  assert.deepEqual(await api.call("x"), []);
});

test("an empty response is an empty object, and other text is an error", async () => {
  const { api } = client({ body: "" }, { body: "<html>" }, { status: 502, body: "<html>" });
  assert.deepEqual(await api.call("x"), {});
  await assert.rejects(api.call("x"), /not JSON/);
  await assert.rejects(api.call("x"), /Try again in a moment/);
});

test("without a connection the text says what to do", async () => {
  const api = new Client({ store: store(), fetch: () => Promise.reject(new TypeError("x")) });
  await assert.rejects(
    api.call("x"),
    (error) => error.status === 0 && /cannot be reached/.test(error.message),
  );
});

test("texts of failures", () => {
  assert.match(explain(413, null), /larger than the server accepts/);
  assert.match(explain(429, { error: "x" }, "30"), /Wait 30 seconds/);
  assert.match(
    explain(409, {
      error: "Error creating document: Document with name 'A 'b'' already exists in library l1.",
    }),
    /“A 'b'” already/,
  );
  assert.match(explain(418, {}), /status 418/);
});
