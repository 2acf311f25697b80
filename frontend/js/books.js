// @ts-check
// The user's books: the list, and contents of one.

import { api } from "./api.js";
import { Epub, fromBase64 } from "./epub.js";

/** @typedef {{ id: string, name: string }} Title */
/** @typedef {Title & { content: string }} Book */
/** @typedef {{ author: string, cover: Blob | null }} Looks */

/** Id of the user's library. @returns {Promise<string>} */
export async function libraryId() {
  const rows = await api.call("Library/_getLibraryByUser", { user: api.user });
  const id = rows?.[0]?.library?._id;
  if (!id) throw new Error("Your account has no library. Ask the operator of this server.");
  return id;
}

/**
 * All books of a library without their contents, oldest first.
 * @param {string} library
 * @returns {Promise<Title[]>}
 */
export async function books(library) {
  const rows = await api.call("Library/_getDocumentNames", { library });
  return rows.map((/** @type {any} */ { document: { _id, name } }) => ({ id: _id, name }));
}

/** @param {string} id @returns {Promise<Book>} */
export async function book(id) {
  const rows = await api.call("Library/_getDocumentDetails", { document: id });
  if (!rows?.[0]?.document) throw new Error("This book is not in your library any more.");
  const { _id, name, epubContent } = rows[0].document;
  return { id: _id, name, content: epubContent ?? "" };
}

/** Base64 of a file. @param {Blob} file @returns {Promise<string>} */
export function toBase64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onerror = () => failed(new Error("The file cannot be read. Choose it again."));
    reader.onload = () => done(String(reader.result).split(",", 2)[1] ?? "");
    reader.readAsDataURL(file);
  });
}

/**
 * Looks of the books seen so far; the content of a book never changes.
 * @type {Map<string, Looks>}
 */
const seen = new Map();

/** Author and cover of a book; empty or null if it has none. @param {string} id @returns {Promise<Looks>} */
export async function looks(id) {
  const found = seen.get(id) ?? (await readLooks(id));
  seen.set(id, found);
  return found;
}

/** @param {string} id @returns {Promise<Looks>} */
async function readLooks(id) {
  const epub = await Epub.open(fromBase64((await book(id)).content));
  if (!epub.cover) return { author: epub.author, cover: null };
  const bytes = await epub.zip.bytes(epub.cover);
  const cover = new Blob([/** @type {BlobPart} */ (bytes)], { type: epub.type(epub.cover) });
  return { author: epub.author, cover };
}

/** A colour for a book without a cover, as an angle. @param {string} name */
export function hue(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 9973;
  return (sum * 47) % 360;
}
