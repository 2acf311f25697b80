import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { readConcepts } from "../src/import/concepts.js";
import { importProject } from "../src/import/import.js";
import { Project } from "../src/import/project.js";
import { ruleText } from "../src/import/rule.js";
import { readRules } from "../src/import/rules.js";
import { declareSecrets } from "../src/import/secrets.js";
import { specText } from "../src/import/specs.js";
import { rule, steps, translate, write } from "./project.js";

const USER = "frames = await frames.query(Login.whoIs, { session }, { user });";

test("patterns and calls, with constants and other names", () => {
  const [add, done] = translate(`
/** Adds a book. */
export const AddBook: Sync = ({ request, owner: who, title }) => ({
  when: actions([Requesting.request, { path: ADD, owner: who, title }, { request }]),
  then: actions([Shelf.add, { owner: who, title }, { book: title }]),
});
export const Added: Sync = ({ request, book }) => ({
  when: actions(
    [Requesting.request, { path: ADD }, { request }],
    [Shelf.add, {}, { book }],
  ),
  then: actions([Requesting.respond, { request, status: TEXTS.done, book }]),
});`);
  assert.equal(
    ruleText(add!),
    `// Adds a book.
sync AddBook
when
    Requesting.request (path: "/Shelf/add", owner: who, title) : (request)
then
    Shelf.add (owner: who, title)
`,
  );
  // A key \`status\` is a part of the body.
  assert.match(ruleText(done!), /respondWith \(request, body: \{status: "added", book: book\}\)/);
  assert.deepEqual([add!.verdict, done!.verdict], ["exact", "exact"]);
});

test("queries, conditions and fields", () => {
  const source = rule(
    "request, session, user, found, id",
    `${USER}
     frames = await frames.query(Shelf._books, { owner: user }, { book: found });
     if (frames.length === 0) return new Frames();
     return frames
       .filter(($) => { const book = $[found] as any; return book && book.owner === $[user] && book.pages !== undefined; })
       .map(($) => ({ ...$, [id]: ($[found] as any)._id, }));`,
    "id",
  );
  assert.deepEqual(steps(source), [
    "exact",
    "Login._whoIs (session) : (user)",
    "Shelf._books (owner: user) : (book: found)",
    "found != null and found.owner == user and found.pages != null",
    "let id = found._id",
  ]);
});

test("collections, with and without a value for an empty result", () => {
  const query = "frames = await frames.query(Shelf._books, { owner: user }, { book });";
  const collect = "return frames.collectAs([book], books);";
  const lines = [
    "Login._whoIs (session) : (user)",
    "Shelf._books (owner: user) : (book)",
    "collect (book) as books",
  ];
  const vars = "request, session, user, book, books";
  const without = rule(vars, `${USER} ${query} ${collect}`, "books");
  assert.deepEqual(steps(without), ["exact", ...lines, "books != []"]);
  const empty = "if (frames.length === 0) return new Frames({ ...first, [books]: [] });";
  const withEmpty = rule(
    vars,
    `const first = frames[0]; ${USER} ${query} ${empty} ${collect}`,
    "books",
  );
  assert.deepEqual(steps(withEmpty), ["exact", ...lines]);
  const list = `const all = frames.map(($) => $[book]); return new Frames({ ...first, [books]: all });`;
  const asList = rule(vars, `const first = frames[0]; ${USER} ${query} ${empty} ${list}`, "books");
  assert.deepEqual(steps(asList), ["exact", lines[0], lines[1], "collect book as books"]);
});

test("queries that the rule calls itself", () => {
  const source = rule(
    "request, session, total",
    `const owner = frames[0][session] as string;
     const [row] = await Shelf._count({ owner });
     if (!row) return new Frames();
     return new Frames({ ...frames[0], [total]: row.total });`,
    "total",
  );
  assert.deepEqual(steps(source), ["exact", "Shelf._count (owner: session) : (total)"]);
});

test("values of rows, of optional rows, and of frames that are changed", () => {
  const vars = "request, session, user, book, titles, total";
  const owner = "const first = frames[0]; const owner = first[session] as string;";
  const list = rule(
    vars,
    `${owner} const rows = await Shelf._books({ owner });
     if ("error" in rows || !Array.isArray(rows)) return new Frames();
     return new Frames({ ...first, [titles]: rows.map((row) => row.book.title) });`,
    "titles",
  );
  assert.deepEqual(steps(list), [
    "exact",
    "Shelf._books (owner: session) : (book)",
    "let item = book.title",
    "collect item as titles",
  ]);
  const optional = rule(
    vars,
    `${owner} const found = await Shelf._first({ owner });
     if ("error" in found) return new Frames({ ...first, [titles]: "none" });
     return new Frames({ ...first, [titles]: found.title });`,
    "titles",
  );
  assert.deepEqual(steps(optional), [
    "exact",
    "optional Shelf._first (owner: session) : (title)",
    'let titles2 = title ?? "none"',
  ]);
  const changed = rule(
    vars,
    `${owner} const rows = await Shelf._count({ owner });
     if (Array.isArray(rows) && rows.length > 0 && "total" in rows[0]) first[total] = rows[0].total;
     return frames;`,
    "total",
  );
  assert.deepEqual(steps(changed), ["exact", "Shelf._count (owner: session) : (total)"]);
});

test("conditions on lists, helpers and loops", () => {
  const some = rule(
    "request, session, user, book",
    `${USER} return frames.filter(($) => ["a", "b"].includes($[user] as string) && !isBad($[user]));`,
    "user",
  );
  const helper = `function isBad(user: unknown) { return user === "c" || user === "d"; }\n`;
  assert.deepEqual(steps(helper + some), [
    "exact",
    "Login._whoIs (session) : (user)",
    'user in ["a", "b"] and not (user == "c" or user == "d")',
  ]);
  const loop = rule(
    "request, session, user, name",
    `const result = new Frames();
     ${USER}
     for (const frame of frames) {
       if (frame[user] === "x") continue;
       result.push({ ...frame, [name]: \`user \${frame[user]}\` });
     }
     return result;`,
    "name",
  );
  assert.deepEqual(steps(loop), [
    "exact",
    "Login._whoIs (session) : (user)",
    'user != "x"',
    'let name = "user " + user',
  ]);
});

test("what changes, what is by hand, and what is broken at the source", () => {
  const verdict = (source: string): string => {
    const [only] = translate(source);
    return `${only!.verdict}, ${only!.place.line}: ${only!.notes.join("; ")}`;
  };
  assert.equal(
    verdict(rule("request, session, user", "return frames.sort();", "session")),
    "by hand, 6: `sort` of frames",
  );
  assert.equal(
    verdict(rule("request, session, user", "return frames;", "user")),
    "broken at the source, 7: `user` is never bound",
  );
  assert.equal(
    verdict(
      rule(
        "request, session, user",
        "return await frames.query(Shelf._books, { owner: session }, { name: user });",
        "user",
      ),
    ),
    "broken at the source, 6: Shelf._books returns no `name`",
  );
  const collect = "return frames.collectAs([book], books);";
  const books =
    "frames = await frames.query(Shelf._first, { owner: session }, { _id: book, owner: user });";
  assert.equal(
    verdict(rule("request, session, user, book, books", `${books} ${collect}`, "books, user")),
    "by hand, 7: `user` after the collection that covers it",
  );
  assert.equal(
    verdict(`export const S: Sync = ({ request, book, error }) => ({
  when: actions([Requesting.request, { path: "/s" }, { request }], [Shelf.add, {}, { book, error }]),
  then: actions([Requesting.respond, { request, error }]),
});`),
    "by hand, 5: a pattern with `error` and other keys",
  );
  assert.equal(
    verdict(`export const S: Sync = ({ request, user, session }) => ({
  when: actions([Requesting.request, { path: "/s", user }, { request }]),
  then: actions([Login.start, { user }, { session }], [Requesting.respond, { request, session }]),
});`),
    "changed, 4: `then` binds `session` for later calls; the source has no value there",
  );
});

test("specs from types and bodies", () => {
  const concepts = readConcepts(new Project(write("")));
  const shelf = concepts.get("Shelf")!;
  assert.equal(
    specText(shelf),
    `concept Shelf [Book, User]
purpose
    keep books
principle
    a book that is added is listed
state
    the collections of the class
actions
    add (owner: User, title: String, tags?: seq of String) : (book: Book)
        effects adds a book
    add (owner: User, title: String, tags?: seq of String) : (error: String)
        requires not: the owner has no book of this title
    check (book: Book) : ()
queries
    _books (owner: User) : (book: {_id: Book, owner: User, title: String, genre: "novel" | "poem", pages?: Number, lentTo: User | null})*
    _first (owner: User) : (_id: Book, owner: User, title: String, genre: "novel" | "poem", pages?: Number, lentTo: User | null)?
    _count (owner: User) : (total: Any)
`,
  );
  assert.deepEqual(
    shelf.omitted.map(({ name, reason }) => `${name}: ${reason}`),
    ["two: it takes several arguments", "_forget: a query that writes"],
  );
  assert.equal(shelf.verdict.verdict, "runs");
});

test("classes that need more than their database", () => {
  const path = "src/concepts/Shelf/ShelfConcept.ts";
  const verdict = (text: string): string => {
    const concepts = readConcepts(new Project(write("", { [path]: text })));
    const { verdict: of } = concepts.get("Shelf")!;
    return `${of.verdict}: ${"why" in of ? of.why.join("; ") : ""}`;
  };
  const shelf = (constructor: string, body: string): string =>
    `export default class ShelfConcept { constructor(${constructor}) {} async go({ url }: { url: string }) { ${body} } }`;
  assert.equal(
    verdict(shelf("db: Db", "await fetch(url);")),
    "needs a service: it calls `fetch` (line 1)",
  );
  assert.equal(verdict(shelf("db: Db, client: MongoClient", "")), "runs: ");
  assert.equal(
    verdict(shelf("db: Db, llm: Model", "")),
    "needs a service: its constructor takes `llm` (line 1)",
  );
  assert.equal(
    verdict(shelf("db: Db", 'db.collection("Login.sessions");')),
    "reaches outside its database: it uses the collection Login.sessions (line 1)",
  );
});

test("answers that the source does not give", () => {
  const source = `export const R: Sync = ({ request, session, user, book }) => ({
  when: actions([Requesting.request, { path: "/x", session }, { request }]),
  where: async (frames) => {
    ${USER}
    return await frames.query(Shelf._books, { owner: user }, { book });
  },
  then: actions([Shelf.add, { owner: user, title: "t" }], [Requesting.respond, { request, book }]),
});`;
  const [own, none, failure] = translate(source, true);
  assert.match(
    ruleText(own!),
    /_whoIs \(session\) : \(user\)\n        else Requesting.respond \(request, error: "the session is not valid", status: 401\)/,
  );
  assert.match(
    ruleText(none!),
    /collect book as found\n    found == \[\]\nthen\n    Requesting.respond \(request, error/,
  );
  assert.match(
    ruleText(failure!),
    /Shelf.add \(\) : \(error\)\nthen\n    Requesting.respond \(request, error\)/,
  );
  assert.deepEqual([none!.verdict, failure!.verdict], ["added", "added"]);
});

test("an answer of a rule that does not name the request", () => {
  const source = `export const Try: Sync = ({ request, owner, title }) => ({
  when: actions([Requesting.request, { path: "/try", owner, title }, { request }]),
  then: actions([Shelf.add, { owner, title }]),
});
export const Enter: Sync = ({ owner, user }) => ({
  when: actions([Shelf.add, { owner }, {}]),
  where: async (frames) => await frames.query(Login.whoIs, { session: owner }, { user }),
  then: actions([Login.start, { user }]),
});
export const Done: Sync = ({ request, session }) => ({
  when: actions([Requesting.request, { path: "/try" }, { request }], [Login.start, {}, { session }]),
  then: actions([Requesting.respond, { request, session }]),
});`;
  const none = translate(source, true).find(({ name }) => name === "TryEnterWithoutResult");
  assert.match(
    ruleText(none!),
    /path: "\/try"\) : \(request\)\n    Shelf.add \(owner\)\nwhere\n.*\n    collect user as found/,
  );
});

test("secrets, which patterns no longer compare", () => {
  const project = new Project(
    write(
      `export const Enter: Sync = ({ request, name, password }) => ({
  when: actions([Requesting.request, { path: "/e", name, password }, { request }]),
  then: actions([Door.open, { name, password }]),
});
export const Entered: Sync = ({ request, name, password, key }) => ({
  when: actions(
    [Requesting.request, { path: "/e", name, password }, { request }],
    [Door.open, { name, password }, { key }],
  ),
  then: actions([Requesting.respond, { request, key }]),
});`,
      {
        "src/concepts/Door/DoorConcept.ts": `export default class DoorConcept {
  async open({ name, password }: { name: string; password: string }): Promise<{ key: string }> {
    return { key: name + password };
  }
}`,
      },
    ),
  );
  const concepts = readConcepts(project);
  const files = readRules(project, concepts, false);
  declareSecrets(concepts, files);
  assert.match(specText(concepts.get("Door")!), /open \(name: String, password: Secret\)/);
  const [enter, entered] = files.flatMap((of) => of.rules);
  assert.match(
    ruleText(enter!),
    /name, password\) : \(request\)\nthen\n    Door.open \(name, password\)/,
  );
  assert.match(ruleText(entered!), /name\) : \(request\)\n    Door.open \(name\) : \(key\)/);
  assert.deepEqual([enter!.verdict, entered!.verdict], ["exact", "changed"]);
});

test("an application directory, with open routes only if asked for", () => {
  const table = `export const inclusions = { "/api/Shelf/_books": "a public list", "/api/Shelf/add": "for all" };
export const exclusions = ["/api/Shelf/check", "/api/Login/start"];`;
  const project = write("", { "src/concepts/Requesting/passthrough.ts": table });
  const options = {
    project,
    answers: false,
    secrets: false,
    accept: [],
    concert: "no-such-program",
    sdk: "^0.1.0",
  };
  const closed = join(mkdtempSync(join(tmpdir(), "concert-app-")), "app");
  const outcome = importProject({ ...options, directory: closed, open: false });
  assert.equal(outcome.isDone, false);
  assert.match(outcome.summary, /cannot run `no-such-program`/);
  const read = (directory: string, name: string): string =>
    readFileSync(join(directory, name), "utf8");
  for (const line of read(closed, "syncs/passthrough.sync").split("\n"))
    assert.match(line, /^(\/\/.*)?$/);
  const report = read(closed, "IMPORT.md");
  assert.match(report, /- \/Shelf\/_books: closed, commented out; a public list/);
  assert.match(report, /- \/Login\/whoIs: closed; the source opens it, and has no entry for it/);
  assert.ok(
    existsSync(join(closed, "src/utils/types.ts")) === false,
    "types are not needed at run time",
  );
  const open = join(mkdtempSync(join(tmpdir(), "concert-app-")), "app");
  importProject({ ...options, directory: open, open: true, sdk: "./sdk" });
  assert.match(read(closed, "package.json"), /"concert-worker": "\^0.1.0"/);
  const { dependencies } = JSON.parse(read(open, "package.json"));
  assert.equal(dependencies["concert-worker"], `file:${resolve("sdk")}`);
  const routes = read(open, "syncs/passthrough.sync");
  assert.match(routes, /^    Shelf._books \(owner\) : \(book\)\n    collect \(book\) as rows/m);
  assert.match(routes, /^    Shelf.add \(owner, title, tags\?\) : \(book\)/m);
  assert.match(
    read(open, "concert.toml"),
    /^\[workers.Login\]\ncommand = \["node", .*"concert-worker\/deno", "workers\/login.ts"\]$/m,
  );
  assert.match(read(open, "workers/login.ts"), /^await Worker.ofClass\(LoginConcept/m);
  assert.throws(() => importProject({ ...options, directory: open, open: true }), /is not empty/);
});
