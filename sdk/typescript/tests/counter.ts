/** A worker of `sdk/tests/counters`: `class` runs a class, `native` has a handler for each action. */

import { existsSync, writeFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import type { Db, UpdateFilter } from "mongodb";
import { Bus } from "../src/bus.js";
import { newId, Refused, Worker } from "../src/index.js";
import type {
  CounterClass,
  CounterHandlers,
  NoteInput,
  NoteRow,
  SizedQuery,
} from "./counter-types.js";

const SPEC = "concepts/Counter.concept";

interface Counter {
  _id: string;
  count: number;
}

interface Note {
  _id: string;
  note?: string | null;
  alias?: string;
}

interface Entry {
  _id?: string;
  name: string;
  entry: string;
}

/** A class that knows nothing of Concert. */
class CounterConcept implements CounterClass {
  private readonly counters;
  private readonly entries;
  private readonly claims;
  private readonly notes;

  constructor(db: Db) {
    this.counters = db.collection<Counter>("counters");
    this.entries = db.collection("entries");
    this.claims = db.collection<{ _id: string }>("claims");
    this.notes = db.collection<Note>("notes");
  }

  async add({ name, entry }: { name: string; entry: string }) {
    if (entry === "") return { error: "An entry is not empty" };
    await Promise.all([
      this.entries.insertOne({ name, entry }),
      this.counters.updateOne({ _id: name }, { $inc: { count: 1 } }, { upsert: true }),
    ]);
    const counter = await this.counters.findOne({ _id: name });
    return { count: counter!.count };
  }

  async ticket({ name, word }: { name: string; word: string }) {
    await this.counters.updateOne({ _id: "tickets" }, { $inc: { count: 1 } }, { upsert: true });
    return { ticket: `${name}:${word}` };
  }

  async claim({ name }: { name: string }) {
    try {
      await this.claims.insertOne({ _id: name });
    } catch {
      return { error: "The name is stored" };
    }
    return {};
  }

  async swallow({ name }: { name: string }) {
    const nonsense = { $nonsense: 1 } as UpdateFilter<Counter>;
    await this.counters.updateOne({ _id: name }, nonsense).catch(() => {});
    return {};
  }

  async slow({ name }: { name: string }) {
    await setTimeout(9000);
    await this.counters.updateOne({ _id: name }, { $inc: { count: 1 } }, { upsert: true });
    return (await this._count({ name }))[0]!;
  }

  async note({ name, ...given }: NoteInput) {
    await this.notes.updateOne({ _id: name }, { $set: given }, { upsert: true });
    const { _id, ...kept } = (await this.notes.findOne({ _id: name }))!;
    // The spec does not allow this null.
    if (given.alias === "null") return { kept: { ...kept, alias: null as unknown as string } };
    return { kept };
  }

  async quote({ name }: { name: string }) {
    await this.counters.updateOne({ _id: name }, { $inc: { count: 1 } }, { upsert: true });
    const response = await fetch(process.env["COUNTER_SERVICE"]!);
    return { quote: await response.text() };
  }

  async _count({ name }: { name: string }) {
    const counter = await this.counters.findOne({ _id: name });
    return [{ count: counter?.count ?? 0 }];
  }

  async _entries({ name }: { name: string }) {
    const entries = await this.entries.find({ name }).toArray();
    return entries.map(({ entry }) => ({ entry }));
  }

  async _note({ name }: { name: string }) {
    if (name === "wrong") return [{ note: 5 as unknown as string }];
    // A value, and not a list of rows.
    return ((await this.notes.findOne({ _id: name }))?.note ?? null) as unknown as NoteRow[];
  }

  async _sized({ name, least }: SizedQuery) {
    // MongoDB takes undefined for null, and no count is at least null.
    const counter = await this.counters.findOne({ _id: name, count: { $gte: least! } });
    return counter ? [{ name }] : [];
  }
}

const handlers: CounterHandlers = {
  async add(call) {
    const { name, entry } = call.input;
    if (entry === "") throw new Refused("An entry is not empty");
    const counters = call.db.collection<Counter>("counters");
    const entries = call.db.collection<Entry>("entries");
    await entries.insertOne({ _id: newId(call, "Entry"), name, entry });
    await counters.updateOne({ _id: name }, { $inc: { count: 1 } }, { upsert: true });
    const counter = await counters.findOne({ _id: name });
    return { count: counter!.count };
  },
  ticket: async ({ input }) => ({ ticket: `${input.name}:${input.word}` }),
  claim: async ({ db, input }) => new CounterConcept(db).claim(input),
  swallow: async ({ db, input }) => new CounterConcept(db).swallow(input),
  slow: async ({ db, input }) => new CounterConcept(db).slow(input),
  note: async ({ db, input }) => new CounterConcept(db).note(input),
  quote: async ({ db, input }) => new CounterConcept(db).quote(input),
  async _count({ db, input }) {
    const counter = await db.collection<Counter>("counters").findOne({ _id: input.name });
    return [{ count: counter?.count ?? 0 }];
  },
  async _entries({ db, input }) {
    const rows = [];
    for await (const { entry } of db.collection<Entry>("entries").find({ name: input.name })) {
      rows.push({ entry });
    }
    return rows;
  },
  async _note({ db, input: { name } }) {
    if (name === "wrong") return [{ note: 5 as unknown as string }];
    const found = await db.collection<Note>("notes").findOne({ _id: name });
    return [{ note: found?.note ?? null }];
  },
  _sized: async ({ db, input }) => new CounterConcept(db)._sized(input),
};

const { publishOnce } = Bus.prototype;
/** Kills the process after the write of some actions, before their completion is published. */
Bus.prototype.publishOnce = function (subject, body, headers) {
  const { entry } = (body["input"] ?? {}) as { entry?: string };
  const marker = `${process.env["CONCERT_KEYS"]}/../crashed-${entry}`;
  if (entry?.endsWith("44") && !existsSync(marker)) {
    writeFileSync(marker, "");
    process.kill(process.pid, "SIGKILL");
  }
  return publishOnce.call(this, subject, body, headers);
};

const worker =
  process.argv[2] === "native"
    ? new Worker(SPEC).handlers(handlers)
    : Worker.ofClass(CounterConcept, SPEC);
worker.external = true;
await worker.main();
