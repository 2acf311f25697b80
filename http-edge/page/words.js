// Texts for times, values and outcomes.

/** Sign and word of each outcome; the sign distinguishes outcomes without colour. */
const OUTCOMES = {
  success: ["✓", "succeeded"],
  succeeded: ["✓", "succeeded"],
  refusal: ["✕", "rejected"],
  failed: ["✕", "failed"],
  fault: ["!", "fault"],
  open: ["…", "in progress"],
  in_flight: ["…", "in progress"],
  dead: ["†", "dead-lettered"],
};

/** `[sign, word]` of an outcome. */
export const outcomeOf = (outcome) => OUTCOMES[outcome] ?? ["?", String(outcome ?? "unknown")];

/** Outcome of a completed action; state of any other. */
export const statusOf = (action) => (action.state === "completed" ? action.outcome : action.state);

/** A duration in microseconds, with two or three digits. */
export function span(us) {
  if (!Number.isFinite(us)) return "?";
  const size = Math.abs(us);
  if (size < 100) return us === 0 ? "0" : `${Math.round(us)} µs`;
  if (size < 999.5e3) return `${digits(us / 1000)} ms`;
  if (size < 59.5e6) return `${digits(us / 1e6)} s`;
  if (size < 59.5 * 60e6) return `${Math.round(us / 60e6)} min`;
  return `${digits(us / 3600e6)} h`;
}

const digits = (number) => (Math.abs(number) < 9.95 ? number.toFixed(1) : String(Math.round(number)));

/** Time of day, with milliseconds. */
export function clock(us) {
  const date = new Date(us / 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Date and time of day. */
export const day = (us) => new Date(us / 1000).toLocaleString();

/** `1 rule`, `2 rules`. */
export const many = (number, one, more = `${one}s`) => `${number} ${number === 1 ? one : more}`;

/** A text, cut to a maximum length. */
const shortened = (text, length) => (text.length > length ? `${text.slice(0, length)}…` : text);

/** Maximum length of one text in a displayed value. */
const MAX_TEXT = 200;

/** `30.0 MB, sha256 c212…` for a reference to a large value, which is stored beside the log. */
function large(text) {
  const [, bytes, digest] = text.match(/^large:[\w-]{22}:(\d+):([0-9a-f]{64})$/) ?? [];
  if (!digest) return null;
  const [size, unit] = Number(bytes) < 1e6 ? [bytes / 1e3, "KB"] : [bytes / 1e6, "MB"];
  return `${(Math.floor(size * 10) / 10).toFixed(1)} ${unit}, sha256 ${digest.slice(0, 4)}…`;
}

/** A value as indented JSON; secrets and long texts are shortened. */
export function json(value) {
  const text = JSON.stringify(
    value,
    (_, inner) => {
      if (typeof inner !== "string") return inner;
      if (inner.startsWith("sealed:")) return `${inner.split(":").slice(0, 2).join(":")}:… (secret)`;
      return large(inner) ?? shortened(inner, MAX_TEXT);
    },
    2,
  );
  return text ?? "(empty)";
}

/** A value on one line. */
export function brief(value) {
  if (typeof value !== "string") return shortened(JSON.stringify(value) ?? "", 80);
  if (value.startsWith("sealed:")) return "(secret)";
  return large(value) ?? `“${shortened(value, 80)}”`;
}
