/** JSON values with exactly one meaning. */

import { Reference } from "./large.js";

/** A JSON value. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
/** A JSON object. */
export type JsonObject = { [key: string]: Json };

const MAX_DEPTH = 127;
const TOKEN =
  /"(?:[^"\\]|\\.)*"|-?\d+(\.\d+)?([eE][+-]?\d+)?|[{}[\],:]|true|false|null/g;

/** The text is not JSON, or not one of the values that the protocol accepts. */
export class BadValue extends Error {}

/** Reads a JSON object. Throws {@link BadValue} for what docs/wire.md rejects. */
export function parseObject(bytes: Uint8Array): JsonObject {
  const value = parse(bytes);
  if (!isObject(value)) throw new BadValue(`expected a JSON object, found ${kind(value)}`);
  return value;
}

/** Reads a JSON value. Throws {@link BadValue}. */
export function parse(bytes: Uint8Array): Json {
  let text: string;
  let value: Json;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch {
    throw new BadValue("malformed JSON");
  }
  checkTokens(text);
  return value;
}

/** What `JSON.parse` accepts: duplicate keys, large numbers, lone surrogates. */
function checkTokens(text: string): void {
  const open: (Set<string> | null)[] = [];
  let isKey = false;
  for (const [token, fraction, exponent] of text.matchAll(TOKEN)) {
    const first = token[0];
    if (first === "{" || first === "[") {
      open.push(first === "{" ? new Set() : null);
      isKey = first === "{";
      if (open.length > MAX_DEPTH) throw new BadValue("malformed JSON: too deeply nested");
    } else if (first === "}" || first === "]") {
      open.pop();
      isKey = false;
    } else if (first === ",") {
      isKey = open.at(-1) instanceof Set;
    } else if (first === '"') {
      const string: string = JSON.parse(token);
      if (!string.isWellFormed()) throw new BadValue("malformed JSON: a lone surrogate in a string");
      const keys = open.at(-1);
      if (isKey && keys) {
        if (keys.has(string)) throw new BadValue("malformed JSON: duplicate key in an object");
        keys.add(string);
        isKey = false;
      }
    } else if (first === "-" || (first! >= "0" && first! <= "9")) {
      const number = Number(token);
      if (!Number.isFinite(number)) throw new BadValue("malformed JSON: not a finite number");
      const isInteger = fraction === undefined && exponent === undefined;
      const digits = isInteger ? BigInt(token) : 0n;
      if (digits > 2n ** 53n || digits < -(2n ** 53n)) {
        throw new BadValue("malformed JSON: an integer beyond 2^53; write it as a string");
      }
    }
  }
}

/** Reports whether a value is a JSON object. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Type of a value, for messages. */
export function kind(value: Json): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** The text that only equal values share: sorted keys, numbers by value, no white space. */
export function canonical(value: Json): string {
  if (typeof value === "number") return digitsOf(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (!isObject(value)) return Reference.parse(value)?.canonical() ?? JSON.stringify(value);
  const keys = Object.keys(value).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const members = keys.map((key) => `${JSON.stringify(key)}:${canonical(value[key]!)}`);
  return `{${members.join(",")}}`;
}

/** Digits of a number without an exponent. */
function digitsOf(number: number): string {
  const text = String(number === 0 ? 0 : number);
  const parts = /^(-?)(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(text);
  if (!parts) return text;
  const [, sign, first, rest = "", exponent] = parts;
  const digits = first + rest;
  const point = 1 + Number(exponent);
  if (point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
  return `${sign}${digits.padEnd(point, "0")}`;
}

/**
 * Reports whether two values are equal: key order is ignored, numbers are equal by value, and
 * references by the values.
 */
export function equal(a: Json, b: Json): boolean {
  return canonical(a) === canonical(b);
}

/**
 * A value as JSON has it: dates and database IDs become strings. Throws {@link BadValue} for one
 * that JSON does not have, such as `NaN`, which would become null.
 */
export function toJson(value: unknown): Json {
  const text = JSON.stringify(value, function (this: Record<string, unknown>, key, of: unknown) {
    const given = this[key];
    if (typeof of === "number" && !Number.isFinite(of)) throw new BadValue("not a finite number");
    if (given instanceof Date && of === null) throw new BadValue("not a valid date");
    return of;
  });
  if (text === undefined) throw new BadValue("not a JSON value");
  return parse(Buffer.from(text));
}
