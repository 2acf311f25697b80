// Builds ZIP archives and small books for tests.

import { deflateRawSync } from "node:zlib";

/** @param {Record<string, string>} files @param {{ deflate?: boolean, comment?: string }} [options] */
export function zip(files, { deflate = true, comment = "" } = {}) {
  const locals = [];
  const directory = [];
  let at = 0;
  for (const [name, text] of Object.entries(files)) {
    const [nameBytes, data] = [Buffer.from(name), Buffer.from(text)];
    const packed = deflate ? deflateRawSync(data) : data;
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(deflate ? 8 : 0, 4);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(nameBytes.length, 22);
    const offset = Buffer.alloc(14);
    offset.writeUInt32LE(at, 10);
    const local = Buffer.concat([Buffer.from("PK\x03\x04"), common, nameBytes, packed]);
    locals.push(local);
    directory.push(Buffer.from("PK\x01\x02"), Buffer.from([20, 0]), common, offset, nameBytes);
    at += local.length;
  }
  const entries = Buffer.concat(directory);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(Object.keys(files).length, 4);
  end.writeUInt16LE(Object.keys(files).length, 6);
  end.writeUInt32LE(entries.length, 8);
  end.writeUInt32LE(at, 12);
  end.writeUInt16LE(comment.length, 16);
  const parts = [...locals, entries, Buffer.from("PK\x05\x06"), end, Buffer.from(comment)];
  return new Uint8Array(Buffer.concat(parts));
}

export const CONTAINER =
  '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>';

/** A book of two chapters. @param {Record<string, string>} [more] files that replace or join the others */
export function book(more = {}) {
  return zip({
    mimetype: "application/epub+zip",
    "META-INF/container.xml": CONTAINER,
    "OEBPS/book.opf": `<package><metadata><dc:title>A  Small Book</dc:title><dc:creator>Ada</dc:creator>
      <meta name="cover" content="pic"/></metadata><manifest>
      <item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>
      <item id="one" href="text/one%20a.xhtml" media-type="application/xhtml+xml"/>
      <item id="two" href="text/two.xhtml" media-type="application/xhtml+xml"/>
      <item id="pic" href="../pic.png" media-type="image/png"/></manifest>
      <spine toc="ncx"><itemref idref="one"/><itemref idref="gone"/><itemref idref="two"/></spine></package>`,
    "OEBPS/toc.ncx": `<ncx><navMap><navPoint><navLabel><text>First</text></navLabel><content src="text/one%20a.xhtml"/>
      <navPoint><navLabel><text>Inner</text></navLabel><content src="text/two.xhtml#part"/></navPoint></navPoint></navMap></ncx>`,
    "OEBPS/text/one a.xhtml": "<html><body><p>One</p></body></html>",
    "OEBPS/text/two.xhtml": "<html><body><p>Two</p></body></html>",
    "pic.png": "not really a picture",
    ...more,
  });
}
