/** A worker of `sdk/tests/counters`: `class` runs a class, `native` has a handler for each action. */

import { existsSync, writeFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import type { Db, UpdateFilter } from "mongodb";
import { Bus } from "../src/bus.js";
import { newId, Refused, Worker, type Call, type Query } from "../src/index.js";

const SPEC = "concepts/Counter.concept";

interface Counter {
  _id: string;
  count: number;
}

interface Entry {
  _id?: string;
  name: string;
  entry: string;
}

/** A class that knows nothing of Concert. */
class CounterConcept {
  private readonly counters;
  private readonly entries;
  private readonly claims;

  constructor(db: Db) {
    this.counters = db.collection<Counter>("counters");
    this.entries = db.collection("entries");
    this.claims = db.collection<{ _id: string }>("claims");
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
    return (await this._count({ name }))[0];
  }

  async _count({ name }: { name: string }) {
    const counter = await this.counters.findOne({ _id: name });
    return [{ count: counter?.count ?? 0 }];
  }

  async _entries({ name }: { name: string }) {
    const entries = await this.entries.find({ name }).toArray();
    return entries.map(({ entry }) => ({ entry }));
  }
}

function native(): Worker {
  return new Worker(SPEC)
    .action("add", async (call: Call<{ name: string; entry: string }>) => {
      const { name, entry } = call.input;
      if (entry === "") throw new Refused("An entry is not empty");
      const counters = call.db.collection<Counter>("counters");
      const entries = call.db.collection<Entry>("entries");
      await entries.insertOne({ _id: newId(call, "Entry"), name, entry });
      await counters.updateOne({ _id: name }, { $inc: { count: 1 } }, { upsert: true });
      const counter = await counters.findOne({ _id: name });
      return { count: counter!.count };
    })
    .action("ticket", async ({ input }: Call<{ name: string; word: string }>) => ({
      ticket: `${input.name}:${input.word}`,
    }))
    .action("claim", async ({ db, input }) => new CounterConcept(db).claim(input))
    .action("swallow", async ({ db, input }) => new CounterConcept(db).swallow(input))
    .action("slow", async ({ db, input }) => new CounterConcept(db).slow(input))
    .query("_count", async ({ db, input }: Query<{ name: string }>) => {
      const counter = await db.collection<Counter>("counters").findOne({ _id: input.name });
      return [{ count: counter?.count ?? 0 }];
    })
    .query("_entries", async ({ db, input }: Query<{ name: string }>) => {
      const rows = [];
      for await (const { entry } of db.collection<Entry>("entries").find({ name: input.name })) {
        rows.push({ entry });
      }
      return rows;
    });
}

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

const worker = process.argv[2] === "native" ? native() : Worker.ofClass(CounterConcept, SPEC);
await worker.main();
