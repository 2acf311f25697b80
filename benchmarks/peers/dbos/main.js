// The logout of an unknown session as a DBOS workflow: two durable steps, then a 404.
import http from "node:http";
import { DBOS } from "@dbos-inc/dbos-sdk";

// No session is known, so there is no database to ask.
const deleteSession = async (_session) => ({ error: "Session not found." });

const logout = DBOS.registerWorkflow(
  async (session) => {
    const deleted = await DBOS.runStep(() => deleteSession(session), { name: "delete" });
    return DBOS.runStep(async () => ({ status: 404, body: deleted }), { name: "respond" });
  },
  { name: "logout" },
);

DBOS.setConfig({ name: "peer", systemDatabaseUrl: process.env.DATABASE_URL, logLevel: "warn" });
await DBOS.launch();

const server = http.createServer(async (request, response) => {
  let text = "";
  for await (const part of request) text += part;
  const { status, body } = await logout(JSON.parse(text).session);
  const json = JSON.stringify(body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(json),
  });
  response.end(json);
});
server.listen(9090, "127.0.0.1");
