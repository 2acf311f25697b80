import assert from "node:assert/strict";
import test from "node:test";
import { fromRange, locate, parse as parseCfi } from "../js/cfi.js";
import { parse } from "./xml.js";

const body = parse("<body><h1>Title</h1><p>One <b>bold</b> word</p>tail</body>").children[0];
const [h1, p] = body.children;
const b = p.children[0];
const range = (startContainer, startOffset, endContainer, endOffset) => ({
  startContainer,
  startOffset,
  endContainer,
  endOffset,
});

for (const [name, given, location] of [
  [
    "within a text",
    range(h1.childNodes[0], 1, h1.childNodes[0], 3),
    "epubcfi(/6/4!/4,/2/1:1,/2/1:3)",
  ],
  [
    "over elements",
    range(p.childNodes[0], 2, p.childNodes[2], 4),
    "epubcfi(/6/4!/4,/4/1:2,/4/3:4)",
  ],
  [
    "into an element",
    range(b.childNodes[0], 0, body.childNodes[2], 4),
    "epubcfi(/6/4!/4,/4/2/1:0,/5:4)",
  ],
  ["a whole element", range(body, 1, body, 2), "epubcfi(/6/4!/4,/4/1:0,/5:0)"],
]) {
  test(`a location ${name} is found again`, () => {
    assert.equal(fromRange(1, body, given), location);
    const found = parseCfi(location);
    assert.equal(found.chapter, 1);
    for (const path of [found.start, found.end]) {
      const { node, offset } = locate(body, path);
      assert.equal(
        fromRange(1, body, range(node, offset, node, offset)),
        `epubcfi(/6/4!/4,${path},${path})`,
      );
    }
  });
}

test("locations of other readers, with ids and without the name, are read", () => {
  assert.deepEqual(parseCfi("/6/4[c1]!/4/2[c1p1]/1:0"), {
    chapter: 1,
    start: "/2/1:0",
    end: "/2/1:0",
  });
  assert.deepEqual(parseCfi("epubcfi(/6/2!/4/2,/1:0,/1:5)"), {
    chapter: 0,
    start: "/2/1:0",
    end: "/2/1:5",
  });
});

test("what is no location is null", () => {
  for (const text of ["", "epubcfi()", "page 3", "/6/4!/2/1:0", "epubcfi(/6/4!/4,x,y)"])
    assert.equal(parseCfi(text), null, text);
});

test("a place that the chapter does not have is null, and past a text is its end", () => {
  assert.equal(locate(body, "/20/1:0"), null);
  assert.deepEqual(locate(body, "/2/1:99"), { node: h1.childNodes[0], offset: 5 });
});

test("texts in a row count as one", () => {
  const split = parse("<body>ab<!-- c -->cd</body>").children[0];
  assert.equal(split.childNodes.length, 2);
  const [, second] = split.childNodes;
  assert.equal(fromRange(0, split, range(second, 1, second, 2)), "epubcfi(/6/2!/4,/1:3,/1:4)");
  assert.deepEqual(locate(split, "/1:3"), { node: second, offset: 1 });
});
