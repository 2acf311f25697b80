/** A class that knows nothing of Concert, as a worker that `concert conform` checks. */

import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Collection, Db } from "mongodb";
import { Worker } from "../src/index.js";

// This file runs as `dist/conformance/class.js`.
const SPEC = "../../../../concert/src/conform/Conformance.concept";

interface Named {
  _id: string;
  owner?: string;
  value?: string;
}

class ConformanceConcept {
  private readonly entries: Collection<{ name: string; entry: string }>;
  private readonly owners: Collection<Named>;
  private readonly values: Collection<Named>;
  /** Failed attempts of this process, by name. */
  private readonly failures = new Map<string, number>();

  constructor(db: Db) {
    this.entries = db.collection("entries");
    this.owners = db.collection("owners");
    this.values = db.collection("values");
  }

  async add({ name, entry }: { name: string; entry: string }) {
    if (entry === "") return { error: "An entry is not empty" };
    await this.entries.insertOne({ name, entry });
    return { entry };
  }

  async claim({ name, owner }: { name: string; owner: string }) {
    try {
      await this.owners.insertOne({ _id: name, owner });
    } catch {
      return { error: "The name has an owner" };
    }
    return { owner };
  }

  async release({ name }: { name: string }) {
    await this.owners.deleteOne({ _id: name });
    return {};
  }

  async put({ name, value }: { name: string; value: string }) {
    await this.values.updateOne({ _id: name }, { $set: { value } }, { upsert: true });
    return { value };
  }

  async wait({ milliseconds, ...entry }: { name: string; entry: string; milliseconds: number }) {
    await setTimeout(milliseconds);
    return this.add(entry);
  }

  async fail({ name, times }: { name: string; times: number }) {
    const attempt = (this.failures.get(name) ?? 0) + 1;
    this.failures.set(name, attempt);
    if (attempt <= times) throw new Error("failing on demand");
    await this.entries.insertOne({ name, entry: "done" });
    return { name };
  }

  async crash(_: { name: string }) {
    process.kill(process.pid, "SIGKILL");
    return {};
  }

  async echo({ value }: { value: string }) {
    return { value };
  }

  async measure({ word }: { word: string }) {
    return { word, length: word.length };
  }

  async misbehave({ kind }: { kind: string }) {
    return kind === "type" ? { entry: 5 } : { error: "not in the spec" };
  }

  async _entries({ name }: { name: string }) {
    return this.entries.find({ name }, { projection: { _id: 0, entry: 1 } }).toArray();
  }

  async _owner({ name }: { name: string }) {
    const found = await this.owners.findOne({ _id: name });
    return found ? [{ owner: found.owner }] : [];
  }

  async _value({ name }: { name: string }) {
    const found = await this.values.findOne({ _id: name });
    return found ? [{ value: found.value }] : [];
  }

  async _rows({ count }: { count: number }) {
    return Array.from({ length: count }, (_, row) => ({ row }));
  }
}

const spec = fileURLToPath(new URL(SPEC, import.meta.url));
await Worker.ofClass(ConformanceConcept, spec).main();
