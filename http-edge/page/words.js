// Times, values and outcomes in the words of the page.

/** What an outcome is called, and the sign that says so without colour. */
const OUTCOMES = {
  success: ["✓", "succeeded"],
  succeeded: ["✓", "succeeded"],
  refusal: ["✕", "refused"],
  failed: ["✕", "failed"],
  fault: ["!", "fault"],
  open: ["…", "under way"],
  in_flight: ["…", "under way"],
  dead: ["†", "given up"],
};

/** `[sign, word]` of an outcome. */
export const outcomeOf = (outcome) => OUTCOMES[outcome] ?? ["?", String(outcome ?? "unknown")];

/** What became of an action: its outcome once it is there, its state before. */
export const fateOf = (action) => (action.state === "completed" ? action.outcome : action.state);

/** A span of time in microseconds, with two or three figures. */
export function span(us) {
  if (!Number.isFinite(us)) return "?";
  const size = Math.abs(us);
  if (size < 100) return us === 0 ? "0" : `${Math.round(us)} µs`;
  if (size < 999.5e3) return `${figures(us / 1000)} ms`;
  if (size < 59.5e6) return `${figures(us / 1e6)} s`;
  if (size < 59.5 * 60e6) return `${Math.round(us / 60e6)} min`;
  return `${figures(us / 3600e6)} h`;
}

const figures = (number) => (Math.abs(number) < 9.95 ? number.toFixed(1) : String(Math.round(number)));

/** The time of the day, to the millisecond. */
export function clock(us) {
  const date = new Date(us / 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** The day and the time of the day. */
export const day = (us) => new Date(us / 1000).toLocaleString();

/** `1 rule`, `2 rules`. */
export const many = (number, one, more = `${one}s`) => `${number} ${number === 1 ? one : more}`;

/** The beginning of a text that is long. */
export const shortened = (text, length) => (text.length > length ? `${text.slice(0, length)}…` : text);

/** How much of one text in a value is shown before somebody asks for more. */
const TEXT_AT_MOST = 200;

/** A value as JSON with line breaks, its secrets and very long texts shortened. */
export function json(value) {
  const told = JSON.stringify(
    value,
    (_, inner) => {
      if (typeof inner !== "string") return inner;
      if (inner.startsWith("sealed:")) return `${inner.split(":").slice(0, 2).join(":")}:… (a secret)`;
      return shortened(inner, TEXT_AT_MOST);
    },
    2,
  );
  return told ?? "nothing";
}

/** A value in a few words, for one line. */
export function brief(value) {
  if (typeof value === "string") return value.startsWith("sealed:") ? "a secret" : `“${shortened(value, 80)}”`;
  return shortened(JSON.stringify(value) ?? "", 80);
}
