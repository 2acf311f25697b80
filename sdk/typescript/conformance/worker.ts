/** The worker that `concert conform` checks. */

import { fileURLToPath } from "node:url";
import { setTimeout } from "node:timers/promises";
import { Refused, Retry, Worker, type Call, type Query } from "../src/index.js";

// This file runs as `dist/conformance/worker.js`.
const SPEC = "../../../../concert/src/conform/Conformance.concept";

interface Named {
  _id: string;
  owner?: string;
  value?: string;
}

/** Failed attempts of this process, by name. */
const failures = new Map<string, number>();

async function add({ db, input }: Call<{ name: string; entry: string }>) {
  const { name, entry } = input;
  if (entry === "") throw new Refused("An entry is not empty");
  await db.collection("entries").insertOne({ name, entry });
  return { entry };
}

const worker = new Worker(fileURLToPath(new URL(SPEC, import.meta.url)))
  .action("add", add)
  .action("claim", async ({ db, input }: Call<{ name: string; owner: string }>) => {
    const owners = db.collection<Named>("owners");
    if (await owners.findOne({ _id: input.name })) throw new Refused("The name has an owner");
    await owners.insertOne({ _id: input.name, owner: input.owner });
    return { owner: input.owner };
  })
  .action("release", async ({ db, input }: Call<{ name: string }>) => {
    await db.collection<Named>("owners").deleteOne({ _id: input.name });
    return {};
  })
  .action("put", async ({ db, input }: Call<{ name: string; value: string }>) => {
    const values = db.collection<Named>("values");
    const change = { $set: { value: input.value } };
    await values.updateOne({ _id: input.name }, change, { upsert: true });
    return { value: input.value };
  })
  .action(
    "wait",
    async (call: Call<{ name: string; entry: string; milliseconds: number }>) => {
      await setTimeout(call.input.milliseconds);
      return add(call);
    },
  )
  .action("fail", async ({ db, input }: Call<{ name: string; times: number }>) => {
    const attempt = (failures.get(input.name) ?? 0) + 1;
    failures.set(input.name, attempt);
    if (attempt <= input.times) throw new Retry("failing on demand");
    await db.collection("entries").insertOne({ name: input.name, entry: "done" });
    return { name: input.name };
  })
  .action("crash", async () => {
    process.kill(process.pid, "SIGKILL");
    return {};
  })
  .action("echo", async ({ input }: Call<{ value: string }>) => ({ value: input.value }))
  .action("measure", async ({ input }: Call<{ word: string }>) => ({
    word: input.word,
    length: input.word.length,
  }))
  .action("misbehave", async ({ input }: Call<{ kind: string }>) =>
    input.kind === "type" ? { entry: 5 } : { error: "not in the spec" },
  )
  .query("_entries", async ({ db, input }: Query<{ name: string }>) => {
    const entries = await db.collection("entries").find({ name: input.name }).toArray();
    return entries.map((of) => ({ entry: of["entry"] }));
  })
  .query("_owner", async ({ db, input }: Query<{ name: string }>) => {
    const owners = await db.collection<Named>("owners").find({ _id: input.name }).toArray();
    return owners.map(({ owner }) => ({ owner }));
  })
  .query("_value", async ({ db, input }: Query<{ name: string }>) => {
    const values = await db.collection<Named>("values").find({ _id: input.name }).toArray();
    return values.map(({ value }) => ({ value }));
  })
  .query("_rows", async ({ input }: Query<{ count: number }>) =>
    Array.from({ length: input.count }, (_, row) => ({ row })),
  );

await worker.main();
