/** TypeScript types as types of specs. */

import ts from "@typescript/typescript6";
import { excerpt, keyOf, type Place, type Project } from "./project.js";

/** A type of a spec. */
export type Type =
  | { is: "plain"; name: "String" | "Number" | "Boolean" | "Date" | "Any" | "Secret" }
  | { is: "id"; name: string }
  | { is: "list"; of: Type }
  | { is: "record"; fields: Field[] }
  | { is: "enum"; values: string[] }
  | { is: "nullable"; of: Type };

/** A field of a record, or a parameter. */
export interface Field {
  name: string;
  optional: boolean;
  type: Type;
}

/** A type that became `Any`, and the reason. */
export interface Loose extends Place {
  what: string;
  reason: string;
}

export const ANY: Type = { is: "plain", name: "Any" };
const PLAIN: Record<string, Type> = {
  string: { is: "plain", name: "String" },
  number: { is: "plain", name: "Number" },
  boolean: { is: "plain", name: "Boolean" },
  Date: { is: "plain", name: "Date" },
  String: { is: "plain", name: "String" },
  Number: { is: "plain", name: "Number" },
  Boolean: { is: "plain", name: "Boolean" },
};
const LOOSE = new Set(["any", "unknown", "object", "Record", "Map", "Document", "Filter"]);
const MAX_DEPTH = 12;
/** Names that a spec reserves for built-in types. */
const BUILT_IN = new Set([...Object.keys(PLAIN), "Any", "Secret", "Date"]);

/** Reports whether a type is the built-in type of a name. */
export function isPlain(type: Type | undefined, name: string): boolean {
  return type?.is === "plain" && type.name === name;
}

/** Text of a type. */
export function textOf(type: Type): string {
  switch (type.is) {
    case "plain":
    case "id":
      return type.name;
    case "list": {
      const isGroup = type.of.is === "nullable" || type.of.is === "enum";
      return `seq of ${isGroup ? `(${textOf(type.of)})` : textOf(type.of)}`;
    }
    case "record":
      return `{${type.fields.map(fieldText).join(", ")}}`;
    case "enum":
      return type.values.map((value) => JSON.stringify(value)).join(" | ");
    case "nullable":
      return type.of === ANY ? "Any" : `${textOf(type.of)} | null`;
  }
}

/** Text of a parameter or field. */
export function fieldText({ name, optional, type }: Field): string {
  return `${name}${optional ? "?" : ""}: ${textOf(type)}`;
}

/** Reads types of one file. */
export class Types {
  readonly loose: Loose[] = [];
  readonly #project: Project;
  #depth = 0;

  constructor(project: Project) {
    this.#project = project;
  }

  /** The members of a type that is an object or a union of objects; `null` for other types. */
  shapes(node: ts.TypeNode): Field[][] | null {
    const type = unwrapped(node);
    if (ts.isParenthesizedTypeNode(type)) return this.shapes(type.type);
    if (ts.isUnionTypeNode(type)) {
      const shapes = type.types.map((of) => this.shapes(of));
      return shapes.some((of) => of === null) ? null : shapes.flatMap((of) => of!);
    }
    if (type.kind === ts.SyntaxKind.VoidKeyword || type.kind === ts.SyntaxKind.UndefinedKeyword) {
      return [[]];
    }
    if (ts.isLiteralTypeNode(type) && type.literal.kind === ts.SyntaxKind.NullKeyword) return [];
    if (ts.isTypeReferenceNode(type)) {
      const name = type.typeName.getText();
      if (name === "Empty") return [[]];
      if (name === "Record" && type.typeArguments?.[1]?.kind === ts.SyntaxKind.NeverKeyword)
        return [[]];
      const found = this.#project.declaration(type.getSourceFile(), name);
      if (found && ts.isTypeAliasDeclaration(found)) return this.shapes(found.type);
    }
    const read = this.read(type, "");
    return read.is === "record" ? [read.fields] : null;
  }

  /** A type; `hint` names an identifier that has no name of its own. */
  read(node: ts.TypeNode, hint: string): Type {
    if (this.#depth > MAX_DEPTH) return this.#any(node, "the type contains itself");
    this.#depth++;
    try {
      return this.#read(node, hint);
    } finally {
      this.#depth--;
    }
  }

  #any(node: ts.Node, reason: string): Type {
    const place = this.#project.place(node);
    const what = excerpt(node);
    if (!this.loose.some((of) => of.what === what && of.file === place.file)) {
      this.loose.push({ ...place, what, reason });
    }
    return ANY;
  }

  #read(node: ts.TypeNode, hint: string): Type {
    if (ts.isParenthesizedTypeNode(node)) return this.read(node.type, hint);
    if (ts.isArrayTypeNode(node)) return { is: "list", of: this.read(node.elementType, hint) };
    if (ts.isTupleTypeNode(node)) return this.#tuple(node, hint);
    if (ts.isUnionTypeNode(node)) return this.#union(node, hint);
    if (ts.isIntersectionTypeNode(node)) return this.#intersection(node, hint);
    if (ts.isTypeLiteralNode(node)) return this.#record(node.members, hint);
    if (ts.isTypeReferenceNode(node)) return this.#reference(node, hint);
    if (ts.isIndexedAccessTypeNode(node)) return this.#indexed(node, hint);
    if (ts.isTypeOperatorNode(node)) return this.read(node.type, hint);
    if (ts.isLiteralTypeNode(node)) {
      const { literal } = node;
      if (ts.isStringLiteral(literal)) return { is: "enum", values: [literal.text] };
      if (literal.kind === ts.SyntaxKind.NullKeyword) return { is: "nullable", of: ANY };
      if (ts.isNumericLiteral(literal)) return PLAIN["number"]!;
      return PLAIN["boolean"]!;
    }
    const text = node.getText();
    return PLAIN[text] ?? this.#any(node, "specs have no such type");
  }

  #tuple(node: ts.TupleTypeNode, hint: string): Type {
    const [first] = node.elements;
    if (!first) return { is: "list", of: ANY };
    const of = ts.isNamedTupleMember(first) ? first.type : (first as ts.TypeNode);
    const isUniform = node.elements.every((element) => element.getText() === first.getText());
    return {
      is: "list",
      of: isUniform ? this.read(of, hint) : this.#any(node, "a tuple of several types"),
    };
  }

  #union(node: ts.UnionTypeNode, hint: string): Type {
    const isNull = (of: ts.TypeNode): boolean =>
      ts.isLiteralTypeNode(of) && of.literal.kind === ts.SyntaxKind.NullKeyword;
    const types = node.types.filter(
      (of) => !isNull(of) && of.kind !== ts.SyntaxKind.UndefinedKeyword && of.getText() !== "[]",
    );
    const read = types.map((of) => this.read(of, hint));
    let type: Type;
    if (read.length > 0 && read.every((of) => of.is === "enum")) {
      type = {
        is: "enum",
        values: [...new Set(read.flatMap((of) => (of.is === "enum" ? of.values : [])))],
      };
    } else {
      const texts = new Set(read.map(textOf));
      type = texts.size === 1 ? read[0]! : this.#any(node, "a union of several types");
    }
    return node.types.some(isNull) ? { is: "nullable", of: type } : type;
  }

  #intersection(node: ts.IntersectionTypeNode, hint: string): Type {
    const read = node.types.map((of) => this.read(of, hint));
    // A branded string, such as `string & { [Brand]: true }`.
    const plain = read.find((of) => of.is === "plain" && of.name !== "Any");
    if (plain) return isPlain(plain, "String") ? identifier(hint) : plain;
    const fields = new Map<string, Field>();
    for (const of of read) {
      if (of.is !== "record") return this.#any(node, "an intersection with an open type");
      for (const field of of.fields) fields.set(field.name, field);
    }
    return { is: "record", fields: [...fields.values()] };
  }

  #record(members: Iterable<ts.TypeElement>, hint: string): Type {
    const fields: Field[] = [];
    for (const member of members) {
      const name = member.name && keyOf(member.name as ts.PropertyName);
      if (ts.isIndexSignatureDeclaration(member)) return this.#any(member.parent, "an open object");
      if (!ts.isPropertySignature(member) || !member.type || !name) continue;
      if (!/^[A-Za-z_]\w*$/.test(name)) return this.#any(member.parent, `the key \`${name}\``);
      const isUndefined =
        ts.isUnionTypeNode(member.type) &&
        member.type.types.some((of) => of.kind === ts.SyntaxKind.UndefinedKeyword);
      const type = this.read(member.type, name === "_id" ? hint : name);
      fields.push({ name, optional: member.questionToken !== undefined || isUndefined, type });
    }
    return { is: "record", fields };
  }

  #reference(node: ts.TypeReferenceNode, hint: string): Type {
    const name = node.typeName.getText();
    const [first, second] = node.typeArguments ?? [];
    if (["Promise", "Readonly", "WithId", "NonNullable"].includes(name) && first) {
      return this.read(first, hint);
    }
    if (["Array", "ReadonlyArray", "Set"].includes(name) && first) {
      return { is: "list", of: this.read(first, hint) };
    }
    if (["Omit", "Pick", "Partial", "Required"].includes(name) && first) {
      return this.#mapped(name, this.read(first, hint), second, node);
    }
    const found = this.#project.declaration(node.getSourceFile(), name);
    if (found && ts.isTypeAliasDeclaration(found)) {
      if (name !== "ID" && isIdentifier(found.type)) return identifier(name);
      return name === "ID" ? identifier(hint) : this.read(found.type, name);
    }
    if (found && ts.isInterfaceDeclaration(found)) return this.#interface(found, name);
    if (found && ts.isEnumDeclaration(found)) {
      const values = found.members.map(({ initializer }) =>
        initializer && ts.isStringLiteral(initializer) ? initializer.text : null,
      );
      return values.some((of) => of === null)
        ? PLAIN["number"]!
        : { is: "enum", values: values as string[] };
    }
    if (name === "ID" || name === "ObjectId") return identifier(hint);
    const isLoose = LOOSE.has(name);
    return (
      PLAIN[name] ?? this.#any(node, isLoose ? "an open type" : "the type is not in the project")
    );
  }

  #interface(node: ts.InterfaceDeclaration, name: string): Type {
    const own = this.#record(node.members, singular(name));
    const bases = (node.heritageClauses ?? []).flatMap(({ types }) => [...types]);
    if (bases.length === 0 || own.is !== "record") return own;
    const fields = new Map<string, Field>();
    for (const base of bases) {
      const found = this.#project.declaration(node.getSourceFile(), base.expression.getText());
      const type =
        found && ts.isInterfaceDeclaration(found)
          ? this.#interface(found, base.expression.getText())
          : this.#any(base, "the type is not in the project");
      if (type.is !== "record") return type;
      for (const field of type.fields) fields.set(field.name, field);
    }
    for (const field of own.fields) fields.set(field.name, field);
    return { is: "record", fields: [...fields.values()] };
  }

  #mapped(name: string, type: Type, keys: ts.TypeNode | undefined, node: ts.Node): Type {
    if (type.is !== "record") return this.#any(node, "of an open type");
    if (name === "Partial" || name === "Required") {
      const optional = name === "Partial";
      return { is: "record", fields: type.fields.map((of) => ({ ...of, optional })) };
    }
    const of = keys && this.read(keys, "");
    const named = of?.is === "enum" ? of.values : [];
    return {
      is: "record",
      fields: type.fields.filter((field) => named.includes(field.name) === (name === "Pick")),
    };
  }

  #indexed(node: ts.IndexedAccessTypeNode, hint: string): Type {
    const type = this.read(node.objectType, hint);
    const literal = ts.isLiteralTypeNode(node.indexType) ? node.indexType.literal : null;
    const name = literal && ts.isStringLiteral(literal) ? literal.text : null;
    if (type.is === "list" && name === null) return type.of;
    const field = type.is === "record" && type.fields.find((of) => of.name === name);
    return field ? field.type : this.#any(node, "an indexed type");
  }
}

function unwrapped(node: ts.TypeNode): ts.TypeNode {
  const isPromise = ts.isTypeReferenceNode(node) && node.typeName.getText() === "Promise";
  return isPromise && node.typeArguments?.[0] ? unwrapped(node.typeArguments[0]) : node;
}

/** Reports whether an alias stands for an identifier, such as `type User = ID`. */
function isIdentifier(node: ts.TypeNode): boolean {
  const text = node.getText();
  return text === "ID" || text === "ObjectId" || /^string & \{/.test(text);
}

/** An identifier; aliases such as `LibraryID` have the name of what they identify. */
function identifier(name: string): Type {
  const short = singular(name.replace(/(?<=[A-Za-z])(ID|Id)$/, ""));
  const upper = short.charAt(0).toUpperCase() + short.slice(1);
  if (upper === "" || !/^[A-Z]\w*$/.test(upper)) return { is: "id", name: "Item" };
  return BUILT_IN.has(upper) ? { is: "plain", name: "String" } : { is: "id", name: upper };
}

function singular(name: string): string {
  return name.replace(/(?<=[A-Za-z])(Doc|Document|Data|Record)$/, "");
}
