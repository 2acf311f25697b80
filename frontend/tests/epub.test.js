import assert from "node:assert/strict";
import test from "node:test";
import { Epub, fromBase64, resolve } from "../js/epub.js";
import { book, CONTAINER, zip } from "./archive.js";
import { parse } from "./xml.js";

test("references are resolved in the book and nowhere else", () => {
  const at = (href) => resolve("OEBPS/text/one.xhtml", href);
  assert.deepEqual(at("two.xhtml#x"), { path: "OEBPS/text/two.xhtml", fragment: "x" });
  assert.deepEqual(at("../pic%20a.png?q"), { path: "OEBPS/pic a.png", fragment: "" });
  assert.deepEqual(at("../../../../etc"), { path: "etc", fragment: "" });
  assert.deepEqual(at("#here"), { path: "OEBPS/text/one.xhtml", fragment: "here" });
  assert.deepEqual(at("100%.xhtml"), { path: "OEBPS/text/100%.xhtml", fragment: "" });
  for (const href of ["https://example.org/a", "//example.org/a", "javascript:1", "DATA:x"]) {
    assert.equal(at(href), null, href);
  }
});

test("title, chapters, contents and cover of a book of version 2", async () => {
  const epub = await Epub.open(book(), parse);
  assert.equal(epub.title, "A Small Book");
  assert.equal(epub.author, "Ada");
  // The entry without a file stays, since locations count it.
  assert.deepEqual(epub.chapters, ["OEBPS/text/one a.xhtml", "", "OEBPS/text/two.xhtml"]);
  assert.deepEqual(epub.toc, [
    { title: "First", chapter: 0, fragment: "", depth: 0 },
    { title: "Inner", chapter: 2, fragment: "part", depth: 1 },
  ]);
  assert.equal(epub.cover, "pic.png");
  assert.equal(epub.chapterTitle(1), "First");
  assert.equal(epub.chapterTitle(2), "Inner");
});

test("contents of a book of version 3", async () => {
  const opf = `<package><metadata/><manifest>
    <item id="nav" href="nav.xhtml" properties="scripted nav" media-type="application/xhtml+xml"/>
    <item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest>
    <spine><itemref idref="c"/></spine></package>`;
  const nav = `<html><body><nav epub:type="landmarks"><ol><li><a href="c.xhtml">No</a></li></ol></nav>
    <nav epub:type="toc"><ol><li><span>Part</span><ol><li><a href="c.xhtml#s">A <b>bold</b> one</a></li></ol></li></ol></nav></body></html>`;
  const epub = await Epub.open(book({ "OEBPS/book.opf": opf, "OEBPS/nav.xhtml": nav }), parse);
  assert.deepEqual(epub.toc, [
    { title: "Part", chapter: -1, fragment: "", depth: 0 },
    { title: "A bold one", chapter: 0, fragment: "s", depth: 1 },
  ]);
});

test("a book without contents lists its parts", async () => {
  const epub = await Epub.open(book({ "OEBPS/toc.ncx": "<ncx/>" }), parse);
  assert.deepEqual(
    epub.toc.map(({ title }) => title),
    ["Part 1", "Part 3"],
  );
});

test("what is no book is rejected in plain words", async () => {
  await assert.rejects(Epub.open(zip({ a: "b" }), parse), /not an EPUB/);
  const empty = zip({ "META-INF/container.xml": CONTAINER, "OEBPS/book.opf": "<package/>" });
  await assert.rejects(Epub.open(empty, parse), /no chapters/);
});

test("base64 with and without a data URL", () => {
  assert.deepEqual([...fromBase64("AP8=")], [0, 255]);
  assert.deepEqual([...fromBase64("data:application/epub+zip;base64,AP8=")], [0, 255]);
});
