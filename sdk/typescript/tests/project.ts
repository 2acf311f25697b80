/** A small project of the TypeScript engine, for the tests of the importer. */

import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { addAnswers } from "../src/import/answers.js";
import { readConcepts } from "../src/import/concepts.js";
import { Project } from "../src/import/project.js";
import { ruleText, type Rule } from "../src/import/rule.js";
import { readRules } from "../src/import/rules.js";

const LOGIN = `import { Collection, Db } from "npm:mongodb";
import { ID } from "@utils/types.ts";
type User = ID;
type Session = ID;
export default class LoginConcept {
  constructor(private readonly db: Db) {}
  private get sessions(): Collection<{ _id: Session; user: User }> {
    return this.db.collection("Login.sessions");
  }
  async start({ user }: { user: User }): Promise<{ session: Session } | { error: string }> {
    const session = crypto.randomUUID() as Session;
    await this.sessions.insertOne({ _id: session, user });
    return { session };
  }
  /** Not a query by its name. */
  async whoIs({ session }: { session: Session }): Promise<{ user: User }[] | { error: string }[]> {
    const found = await this.sessions.findOne({ _id: session });
    if (!found) return [{ error: "no such session" }];
    return [{ user: found.user }];
  }
}
`;

const SHELF = `import { Collection, Db } from "npm:mongodb";
import { ID } from "@utils/types.ts";
type User = ID;
type BookID = ID;
export interface BookDoc {
  _id: BookID;
  owner: User;
  title: string;
  genre: "novel" | "poem";
  pages?: number;
  lentTo: User | null;
}
/**
 * @purpose keep books
 * @principle a book that is added is listed
 */
export default class ShelfConcept {
  private readonly books: Collection<BookDoc>;
  constructor(private readonly db: Db) {
    this.books = this.db.collection("Shelf.books");
  }
  /**
   * **requires** the owner has no book of this title
   *
   * **effects** adds a book
   */
  async add({ owner, title, tags }: { owner: User; title: string; tags: string[] }): Promise<{ book?: BookID; error?: string }> {
    if (await this.books.findOne({ owner, title })) return { error: "the title exists" };
    const book: BookDoc = { _id: "1" as BookID, owner, title, genre: "novel", lentTo: null };
    await this.books.insertOne(book);
    for (const tag of tags || []) console.log(tag);
    return { book: book._id };
  }
  async check({ book }: { book: BookID }): Promise<Empty> {
    return {};
  }
  async two(book: BookID, other: BookID) {}
  async _books({ owner }: { owner: User }): Promise<{ book: BookDoc }[]> {
    const found = await this.books.find({ owner }).toArray();
    return found.map((book) => ({ book }));
  }
  async _first({ owner }: { owner: User }): Promise<BookDoc | null> {
    return await this.books.findOne({ owner });
  }
  async _count({ owner }: { owner: User }) {
    const total = await this.books.countDocuments({ owner });
    return [{ total }];
  }
  async _forget({ book }: { book: BookID }) {
    await this.books.deleteOne({ _id: book });
    return [];
  }
}
`;

const FILES: Record<string, string> = {
  "deno.json": JSON.stringify({ imports: { "@utils/": "./src/utils/" } }),
  "src/utils/types.ts":
    "declare const Brand: unique symbol;\n" +
    "export type ID = string & { [Brand]: true };\n" +
    "export type Empty = Record<PropertyKey, never>;\n",
  "src/utils/paths.ts":
    'export const ADD = "/Shelf/add";\nexport const TEXTS = { done: "added" };\n',
  "src/concepts/Login/LoginConcept.ts": LOGIN,
  "src/concepts/Shelf/ShelfConcept.ts": SHELF.replace("{ ID }", "{ Empty, ID }"),
};

const HEAD =
  'import { actions, Frames, Sync } from "@engine";\n' +
  'import { Login, Requesting, Shelf } from "@concepts";\n' +
  'import { ADD, TEXTS } from "@utils/paths.ts";\n';

/** Writes a project with one file of rules. Returns its directory. */
export function write(rules: string, more: Record<string, string> = {}): string {
  const root = mkdtempSync(join(tmpdir(), "concert-import-"));
  const files = { ...FILES, "src/syncs/shelf.sync.ts": HEAD + rules, ...more };
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return root;
}

/** The translated rules of a file. */
export function translate(rules: string, answers = false): Rule[] {
  const project = new Project(write(rules));
  const concepts = readConcepts(project);
  const files = readRules(project, concepts, answers);
  if (answers) addAnswers(files, concepts);
  return files.flatMap((of) => of.rules);
}

/** A rule `R` for the path `/x` with a body for `where`. */
export function rule(vars: string, where: string, then: string): string {
  return `export const R: Sync = ({ ${vars} }) => ({
  when: actions([Requesting.request, { path: "/x", session }, { request }]),
  where: async (frames) => { ${where} },
  then: actions([Requesting.respond, { request, ${then} }]),
});\n`;
}

/** The steps of `where` of the only rule, as lines, and how faithful the rule is. */
export function steps(source: string): string[] {
  const [only] = translate(source);
  const text = ruleText({ ...only!, comment: [], notes: [] });
  const where = /where\n([\s\S]*)then/.exec(text)?.[1] ?? "";
  return [
    only!.verdict,
    ...where
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean),
  ];
}
