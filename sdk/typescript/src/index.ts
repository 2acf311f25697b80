/** Workers for Concert: durable actions that take effect once. */

export { clientOf } from "./database.js";
export { settingsFrom, type Settings } from "./settings.js";
export { BadSpec, Spec } from "./spec.js";
export type { Json, JsonObject } from "./value.js";
export {
  newId,
  Refused,
  Retry,
  Throttled,
  Worker,
  type ActionHandler,
  type Call,
  type ClassOptions,
  type Query,
  type QueryHandler,
} from "./worker.js";
