declare const Brand: unique symbol;

export type ID = string & { [Brand]: true };
export type Empty = Record<PropertyKey, never>;
