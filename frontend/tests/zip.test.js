import assert from "node:assert/strict";
import test from "node:test";
import { Zip, ZipError } from "../js/zip.js";
import { zip } from "./archive.js";

const LONG = "all work and no play ".repeat(5000);

for (const deflate of [true, false]) {
  test(`entries are read back, deflate: ${deflate}`, async () => {
    const archive = new Zip(
      zip({ a: "first", "b/ü.txt": LONG, "dir/": "" }, { deflate, comment: "PK\x05 end" }),
    );
    assert.deepEqual(archive.names(), ["a", "b/ü.txt"]);
    assert.equal(await archive.text("a"), "first");
    assert.equal(await archive.text("b/ü.txt"), LONG);
  });
}

test("what is no archive is rejected", () => {
  for (const bytes of [
    new Uint8Array(),
    new Uint8Array(100),
    Buffer.from("PK\x03\x04 and no more text"),
  ]) {
    assert.throws(() => new Zip(new Uint8Array(bytes)), ZipError);
  }
});

test("an archive that is cut off is rejected", () => {
  const bytes = zip({ a: LONG });
  assert.throws(() => new Zip(bytes.subarray(0, bytes.length - 30)), ZipError);
  assert.throws(() => new Zip(bytes.subarray(60)), ZipError);
});

test("damaged data is an error of its entry alone", async () => {
  const bytes = zip({ a: LONG, b: "fine" });
  bytes.fill(0xff, 31, 60);
  const archive = new Zip(bytes);
  await assert.rejects(archive.bytes("a"), /“a” is damaged/);
  assert.equal(await archive.text("b"), "fine");
});

test("more bytes than the directory declares are rejected", async () => {
  const bytes = zip({ a: LONG });
  const view = new DataView(bytes.buffer);
  const directory = view.getUint32(bytes.length - 6, true);
  view.setUint32(directory + 24, 10, true);
  await assert.rejects(new Zip(bytes).bytes("a"), /damaged/);
});

test("encrypted, missing and unknown entries have their own messages", async () => {
  const bytes = zip({ a: "text" });
  const view = new DataView(bytes.buffer);
  const directory = view.getUint32(bytes.length - 6, true);
  await assert.rejects(new Zip(bytes).bytes("b"), /“b” is missing/);
  view.setUint16(directory + 10, 12, true);
  await assert.rejects(new Zip(bytes).bytes("a"), /unknown way/);
  view.setUint16(directory + 8, 1, true);
  await assert.rejects(new Zip(bytes).bytes("a"), /encrypted/);
});
