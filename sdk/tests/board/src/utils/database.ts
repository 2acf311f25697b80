import { MongoClient } from "npm:mongodb";
import { ID } from "@utils/types.ts";

export async function getDb() {
  const client = new MongoClient(Deno.env.get("MONGODB_URL")!);
  await client.connect();
  return client.db("board");
}

export function freshID(): ID {
  return crypto.randomUUID() as string as ID;
}
