/** The worker of Note. */

import { newId, Refused, Worker, type Call, type Query } from "concert-worker";

interface Note {
  _id: string;
  writer: string;
  text: string;
}

await new Worker("concepts/Note.concept")
  .action("create", async (call: Call<{ writer: string; text: string }>) => {
    if (call.input.text === "") throw new Refused("The text is empty");
    const created = newId(call, "Note");
    await call.db.collection<Note>("all").insertOne({ _id: created, ...call.input });
    return { note: created };
  })
  .action("delete", async ({ db, input }: Call<{ note: string }>) => {
    const { deletedCount } = await db.collection<Note>("all").deleteOne({ _id: input.note });
    if (deletedCount === 0) throw new Refused("There is no such Note");
    return {};
  })
  .query("_byWriter", async ({ db, input }: Query<{ writer: string }>) => {
    const found = await db.collection<Note>("all").find({ writer: input.writer }).toArray();
    return found.map(({ _id, text }) => ({ note: _id, text }));
  })
  .main();
