// @ts-check
// Reads ZIP archives in memory: stored and deflated entries.

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const LOCAL = 0x04034b50;
const END_BYTES = 22;
/** Maximum length of the comment after the end record, in bytes. */
const COMMENT_MAX = 0xffff;
/** Maximum size of one unpacked entry, in bytes. */
const UNPACKED_MAX = 128 * 1024 * 1024;
const IS_ENCRYPTED = 1;

/** The archive cannot be read. The message is for readers of the page. */
export class ZipError extends Error {}

/** @typedef {{ method: number, flags: number, packed: number, size: number, at: number }} Entry */

/** An archive. The constructor reads the directory; entries are read when they are needed. */
export class Zip {
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  #bytes;
  #view;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    try {
      this.#readDirectory();
    } catch (error) {
      if (error instanceof RangeError) throw new ZipError("The file is cut off or damaged.");
      throw error;
    }
  }

  /** Names of all entries. */
  names() {
    return [...this.#entries.keys()];
  }

  /** @param {string} name */
  has(name) {
    return this.#entries.has(name);
  }

  /**
   * Content of an entry.
   * @param {string} name
   * @returns {Promise<Uint8Array>}
   */
  async bytes(name) {
    const entry = this.#entries.get(name);
    if (!entry) throw new ZipError(`The file “${name}” is missing in the book.`);
    if (entry.flags & IS_ENCRYPTED) throw new ZipError("The book is encrypted.");
    if (entry.size > UNPACKED_MAX) throw new ZipError(`The file “${name}” is too large.`);
    const packed = this.#packed(entry);
    if (entry.method === 0) return packed;
    if (entry.method !== 8) throw new ZipError(`The file “${name}” is packed in an unknown way.`);
    return inflate(packed, entry.size, name);
  }

  /**
   * Content of an entry as text.
   * @param {string} name
   */
  async text(name) {
    const bytes = await this.bytes(name);
    const isUtf16 = bytes[0] === 0xff && bytes[1] === 0xfe;
    return new TextDecoder(isUtf16 ? "utf-16le" : "utf-8").decode(bytes);
  }

  #readDirectory() {
    const end = this.#findEnd();
    const count = this.#view.getUint16(end + 10, true);
    let at = this.#view.getUint32(end + 16, true);
    if (at === 0xffffffff) throw new ZipError("The book is larger than 4 GB.");
    const decoder = new TextDecoder();
    for (let index = 0; index < count; index += 1) {
      if (this.#view.getUint32(at, true) !== ENTRY) throw new ZipError("The file is damaged.");
      const read16 = (/** @type {number} */ offset) => this.#view.getUint16(at + offset, true);
      const read32 = (/** @type {number} */ offset) => this.#view.getUint32(at + offset, true);
      const name = decoder.decode(this.#bytes.subarray(at + 46, at + 46 + read16(28)));
      const entry = { flags: read16(8), method: read16(10), packed: read32(20), size: read32(24) };
      if (!name.endsWith("/")) this.#entries.set(name, { ...entry, at: read32(42) });
      at += 46 + read16(28) + read16(30) + read16(32);
    }
  }

  #findEnd() {
    const last = this.#bytes.length - END_BYTES;
    for (let at = last; at >= Math.max(0, last - COMMENT_MAX); at -= 1) {
      if (this.#view.getUint32(at, true) === END) return at;
    }
    throw new ZipError("This is not an EPUB file.");
  }

  /** @param {Entry} entry */
  #packed({ at, packed }) {
    if (at + 30 > this.#bytes.length || this.#view.getUint32(at, true) !== LOCAL) {
      throw new ZipError("The file is damaged.");
    }
    // The lengths of name and extra field may differ from those of the directory.
    const start =
      at + 30 + this.#view.getUint16(at + 26, true) + this.#view.getUint16(at + 28, true);
    if (start + packed > this.#bytes.length) throw new ZipError("The file is cut off or damaged.");
    return this.#bytes.subarray(start, start + packed);
  }
}

/**
 * Unpacks, and stops past the size that the directory declares.
 * @param {Uint8Array} packed
 * @param {number} size
 * @param {string} name
 */
async function inflate(packed, size, name) {
  const damaged = new ZipError(`The file “${name}” is damaged.`);
  const stream = new Blob([/** @type {BlobPart} */ (packed)]).stream();
  const reader = stream.pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const out = new Uint8Array(size);
  let length = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (length + value.length > size) throw damaged;
      out.set(value, length);
      length += value.length;
    }
  } catch {
    await reader.cancel().catch(() => {});
    throw damaged;
  }
  if (length !== size) throw damaged;
  return out;
}
