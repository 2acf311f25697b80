import assert from "node:assert/strict";
import test from "node:test";
import { place } from "../js/preferences.js";
import { duration, length, perBook, perDay, streak } from "../js/reading.js";
import { parseHash } from "../js/router.js";
import { lineHeight } from "../js/text-settings.js";

const session = (document, start, minutes) => ({
  _id: "x",
  document,
  startTime: new Date(start).toISOString(),
  endTime: minutes === null ? null : new Date(start.getTime() + minutes * 60_000).toISOString(),
});
const day = (date, hour = 12) => new Date(2026, 2, date, hour);

test("durations in words", () => {
  assert.deepEqual([0, 20_000, 60_000, 3_720_000].map(duration), [
    "0 min",
    "under 1 min",
    "1 min",
    "1 h 2 min",
  ]);
});

test("open sessions have no length", () => {
  assert.equal(length(session("a", day(1), null)), 0);
  assert.equal(length(session("a", day(1), 5)), 300_000);
});

test("sums of days, over a change of the clock", () => {
  const sessions = [
    session("a", day(28, 23), 10),
    session("b", day(30, 1), 5),
    session("a", day(1), 99),
  ];
  const days = perDay(sessions, 3, day(30, 22).getTime());
  assert.deepEqual(
    days.map(({ ms }) => ms / 60_000),
    [10, 0, 5],
  );
});

test("sums of books, longest first", () => {
  const sums = perBook([session("a", day(1), 5), session("b", day(1), 9), session("a", day(2), 1)]);
  assert.deepEqual(
    sums.map(({ document, ms, count }) => [document, ms / 60_000, count]),
    [
      ["b", 9, 1],
      ["a", 6, 2],
    ],
  );
});

test("days in a row end today or yesterday", () => {
  const sessions = [session("a", day(3), 1), session("a", day(4), 1), session("a", day(1), 1)];
  assert.deepEqual(
    [4, 5, 6].map((today) => streak(sessions, day(today).getTime())),
    [2, 2, 0],
  );
});

test("a stored place is checked", () => {
  const stored = (text) => place("u", "d", { getItem: () => text });
  assert.deepEqual(stored('{"chapter":2,"part":0.5}'), { chapter: 2, part: 0.5 });
  for (const text of [null, "{", "null", '{"chapter":-1,"part":0}', '{"chapter":1,"part":7}'])
    assert.equal(stored(text), null);
});

test("addresses of views", () => {
  assert.deepEqual(parseHash("#/read/a%20b"), { name: "read", argument: "a b" });
  assert.deepEqual(parseHash(""), { name: "", argument: "" });
  assert.deepEqual(parseHash("#/read/%"), { name: "read", argument: "" });
});

test("a line is never lower than its text", () => {
  assert.equal(lineHeight(16, 1.5), 24);
  assert.equal(lineHeight(17, 0.5), 17);
});
