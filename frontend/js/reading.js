// @ts-check
// Sums of reading times.

/** @typedef {{ _id: string, document: string, startTime: string, endTime: string | null }} Session */

const DAY_MS = 86_400_000;

/** Length in milliseconds; an open session counts as 0. @param {Session} session */
export function length({ startTime, endTime }) {
  if (!endTime) return 0;
  const length = Date.parse(endTime) - Date.parse(startTime);
  return Number.isFinite(length) ? Math.max(0, length) : 0;
}

/** Such as "2 h 5 min". @param {number} ms */
export function duration(ms) {
  const minutes = Math.round(ms / 60_000);
  if (ms > 0 && minutes === 0) return "under 1 min";
  const hours = Math.floor(minutes / 60);
  return hours === 0 ? `${minutes} min` : `${hours} h ${minutes % 60} min`;
}

/** Start of a local day. @param {number} time */
function day(time) {
  const date = new Date(time);
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

/** Read time of each of the last days, oldest first. @param {Session[]} sessions @param {number} count @param {number} now */
export function perDay(sessions, count, now) {
  // Noon avoids days of 23 or 25 hours.
  const noon = day(now) + DAY_MS / 2;
  const days = Array.from({ length: count }, (_, index) => ({
    day: day(noon - (count - 1 - index) * DAY_MS),
    ms: 0,
  }));
  for (const session of sessions) {
    const start = day(Date.parse(session.startTime));
    const found = days.find((one) => one.day === start);
    if (found) found.ms += length(session);
  }
  return days;
}

/** Read time of each book, longest first. @param {Session[]} sessions */
export function perBook(sessions) {
  /** @type {Map<string, { document: string, ms: number, count: number }>} */
  const books = new Map();
  for (const session of sessions) {
    const { document } = session;
    const book = books.get(document) ?? { document, ms: 0, count: 0 };
    books.set(document, { document, ms: book.ms + length(session), count: book.count + 1 });
  }
  return [...books.values()].sort((a, b) => b.ms - a.ms);
}

/** Number of successive days with reading until today or yesterday. @param {Session[]} sessions @param {number} now */
export function streak(sessions, now) {
  const days = new Set(sessions.map(({ startTime }) => day(Date.parse(startTime))));
  let at = day(now);
  if (!days.has(at)) at = day(at - DAY_MS / 2);
  let count = 0;
  while (days.has(at)) {
    count += 1;
    at = day(at - DAY_MS / 2);
  }
  return count;
}
