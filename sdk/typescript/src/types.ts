/** Types of values in concept specs, as JSON: `"string"`, `{ seq: "number" }`, `{ id: "User" }`. */

import { INLINE_MAX_BYTES, Reference } from "./large.js";
import { canonical, isObject, type Json } from "./value.js";

/** A field of a record. */
export type Field = { name: string; optional?: true; type: Type };
/** A type, in the form of docs/wire.md. */
export type Type =
  | "any"
  | "string"
  | "number"
  | "boolean"
  | "date"
  | "secret"
  | { id: string }
  | { seq: Type }
  | { set: Type }
  | { enum: string[] }
  | { nullable: Type }
  | { boundedString: number }
  | { boundedSecret: number }
  | { record: Field[] };
/** Path to the part that violates a type, and the problem. */
export type Problem = [path: string, problem: string];

const LARGE: Problem = ["", `must have at most ${INLINE_MAX_BYTES} bytes`];
const TIME = /^([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$/;
const DAY = /^(\d{4})-(\d\d)-(\d\d)$/;
const SIMPLE: Record<string, string> = {
  any: "a value",
  string: "a string",
  secret: "a string",
  number: "a number",
  boolean: "true or false",
  date: "a date such as 2026-01-31 or 2026-01-31T12:00:00Z",
};

/** Reports whether values of a type are secret. */
export function isSecret(type: Type): boolean {
  return type === "secret" || (typeof type === "object" && "boundedSecret" in type);
}

/** The first part of a value that violates a type. */
export function check(type: Type, value: Json): Problem | null {
  const large = Reference.parse(value);
  if (large) return checkLarge(type, large.size);
  if (isSecret(type) && typeof value === "string" && Buffer.byteLength(value) > INLINE_MAX_BYTES) {
    return LARGE;
  }
  if (typeof type === "object") {
    if ("nullable" in type) return value === null ? null : check(type.nullable, value);
    if ("record" in type && isObject(value)) return checkRecord(type.record, value);
    const of = "seq" in type ? type.seq : "set" in type ? type.set : null;
    if (of !== null && Array.isArray(value)) {
      for (const [number, item] of value.entries()) {
        const found = check(of, item);
        if (found) return [`[${number}]${found[0]}`, found[1]];
      }
      if ("seq" in type || new Set(value.map(canonical)).size === value.length) return null;
    }
  }
  return accepts(type, value) ? null : ["", `must be ${describe(type)}`];
}

/** Whether a type includes large values; a character has up to four bytes. */
function checkLarge(type: Type, size: number): Problem | null {
  if (type === "any" || type === "string") return null;
  if (isSecret(type)) return LARGE;
  if (typeof type === "object") {
    if ("nullable" in type) return checkLarge(type.nullable, size);
    if ("boundedString" in type && size <= 4 * type.boundedString) return null;
    if ("id" in type) return LARGE;
  }
  return ["", `must be ${describe(type)}`];
}

function accepts(type: Type, value: Json): boolean {
  if (type === "any") return true;
  if (type === "number" || type === "boolean") return typeof value === type;
  if (typeof value !== "string") return false;
  if (typeof type === "string") return type !== "date" || isDate(value);
  if ("id" in type) return value !== "";
  if ("enum" in type) return type.enum.includes(value);
  const most =
    "boundedString" in type ? type.boundedString : "boundedSecret" in type ? type.boundedSecret : -1;
  return [...value].length <= most;
}

function checkRecord(fields: Field[], value: { [key: string]: Json }): Problem | null {
  for (const { name, optional, type } of fields) {
    if (!Object.hasOwn(value, name)) {
      if (optional) continue;
      return [`.${name}`, "is missing"];
    }
    const found = check(type, value[name]!);
    if (found) return [`.${name}${found[0]}`, found[1]];
  }
  const unknown = Object.keys(value).find((key) => !fields.some(({ name }) => name === key));
  return unknown === undefined ? null : [`.${unknown}`, "is not declared"];
}

function describe(type: Type): string {
  if (typeof type === "string") return SIMPLE[type]!;
  if ("id" in type) return `a non-empty string (a ${type.id})`;
  if ("seq" in type) return `a list, each of it ${describe(type.seq)}`;
  if ("set" in type) return `a list without duplicates, each of it ${describe(type.set)}`;
  if ("enum" in type) return `one of ${type.enum.map((text) => `"${text}"`).join(", ")}`;
  if ("nullable" in type) return `${describe(type.nullable)} or null`;
  if ("record" in type) {
    const keys = type.record.map(({ name, optional }) => (optional ? `${name} (optional)` : name));
    return `an object with the keys ${keys.join(", ")}`;
  }
  const most = "boundedString" in type ? type.boundedString : type.boundedSecret;
  return `a string of at most ${most} characters`;
}

function isDate(text: string): boolean {
  const at = text.search(/[Tt]/);
  const day = DAY.exec(at < 0 ? text : text.slice(0, at));
  if (!day || (at >= 0 && !TIME.test(text.slice(at + 1)))) return false;
  const [year, month, date] = [Number(day[1]), Number(day[2]), Number(day[3])];
  const isLeap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  const days = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1] ?? 0;
  return date >= 1 && date <= days;
}
