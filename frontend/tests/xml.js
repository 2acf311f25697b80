// A small XML tree for tests: the part of the DOM that `epub.js` and `cfi.js` use.

class Node {
  constructor(type, value = null) {
    this.nodeType = type;
    this.nodeValue = value;
    this.childNodes = [];
    this.parentNode = null;
  }
  get textContent() {
    return this.nodeValue ?? this.childNodes.map((child) => child.textContent).join("");
  }
  get children() {
    return this.childNodes.filter((child) => child.nodeType === 1);
  }
  append(child) {
    child.parentNode = this;
    this.childNodes.push(child);
  }
  getAttribute(name) {
    return this.attributes.find((one) => one.name === name)?.value ?? null;
  }
  getElementsByTagNameNS(_, name) {
    const own = (child) => [
      ...(child.localName === name ? [child] : []),
      ...child.getElementsByTagNameNS(_, name),
    ];
    return this.children.flatMap(own);
  }
}

/** Parses well-formed XML without entities. */
export function parse(text) {
  const root = new Node(9);
  let at = root;
  for (const [, close, open, attributes, empty, data] of text.matchAll(
    /<(?:\/([\w:]+)|[?!][^>]*|([\w:]+)((?:\s+[\w:-]+="[^"]*")*)\s*(\/?))>|([^<]+)/g,
  )) {
    if (data !== undefined) at.append(new Node(3, data));
    else if (close) at = at.parentNode;
    else if (open) {
      const node = new Node(1);
      node.localName = open.split(":").at(-1);
      node.attributes = [...attributes.matchAll(/([\w:-]+)="([^"]*)"/g)].map(([, name, value]) => ({
        name,
        value,
      }));
      at.append(node);
      if (!empty) at = node;
    }
  }
  return root;
}
