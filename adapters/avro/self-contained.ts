/**
 * A schema that uses named types of other schemas, made into one that stands alone. Names go by the Avro specification, "Names": one
 * without a dot is of the namespace around it, or of none. Pure.
 */

const PRIMITIVES: ReadonlySet<unknown> = new Set([
  "null",
  "boolean",
  "int",
  "long",
  "float",
  "double",
  "bytes",
  "string",
]);
const NAMED: ReadonlySet<unknown> = new Set(["record", "error", "enum", "fixed"]);

/** By full names. Within a definition every type that has a name is told by that name alone. */
type Definitions = Map<string, any>;

/**
 * @param text Avro as JSON
 * @param others whose types it uses; one stands after those whose types it uses itself
 * @returns the schema with each named type in full where it comes first
 * @throws Error for what is no JSON, and for two types of one name
 */
export function selfContained(text: string, others: readonly string[]): string {
  const definitions: Definitions = new Map();
  for (const other of others) named(JSON.parse(other), "", definitions);
  const root = named(JSON.parse(text), "", definitions);
  return JSON.stringify(inFull(root, definitions, new Set()));
}

/** The schema with names in place of named types, which go into `definitions`. */
function named(schema: any, space: string, definitions: Definitions): unknown {
  if (typeof schema === "string") return PRIMITIVES.has(schema) ? schema : reference(schema, space, definitions);
  if (Array.isArray(schema)) return schema.map((branch) => named(branch, space, definitions));
  if (schema === null || typeof schema !== "object") return schema;
  if (NAMED.has(schema.type)) return define(schema, space, definitions);
  const parts = ["type", "items", "values"].filter((key) => key in schema);
  const inside = parts.map((key) => [
    key,
    key === "type" && isComplex(schema.type) ? schema.type : named(schema[key], space, definitions),
  ]);
  return { ...schema, ...Object.fromEntries(inside) };
}

const isComplex = (type: unknown): boolean => type === "array" || type === "map";

function define(schema: any, space: string, definitions: Definitions): string {
  const full = fullName(String(schema.name), schema.namespace ?? space);
  const dot = full.lastIndexOf(".");
  const own = full.slice(0, Math.max(0, dot));
  const definition = { ...schema, namespace: own, name: full.slice(dot + 1) };
  const before = definitions.get(full);
  // Before its fields, which may be of its own type.
  if (before === undefined) definitions.set(full, definition);
  if (Array.isArray(schema.fields)) {
    definition.fields = schema.fields.map((field: any) => ({ ...field, type: named(field?.type, own, definitions) }));
  }
  if (before !== undefined && JSON.stringify(before) !== JSON.stringify(definition)) {
    throw new Error(`${full} is defined twice, and not as the same`);
  }
  return absolute(full);
}

function reference(name: string, space: string, definitions: Definitions): string {
  const near = fullName(name, space);
  return absolute(definitions.has(near) || !definitions.has(name) ? near : name);
}

const fullName = (name: string, space: string): string =>
  name.includes(".") ? name.replace(/^\./, "") : space === "" ? name : `${space}.${name}`;

/** A name of no namespace begins with a dot, or it would be taken for one of the namespace around it. */
const absolute = (full: string): string => (full.includes(".") ? full : `.${full}`);

function inFull(schema: any, definitions: Definitions, told: Set<string>): unknown {
  if (typeof schema === "string") {
    const full = schema.replace(/^\./, "");
    const definition = definitions.get(full);
    if (definition === undefined || told.has(full)) return schema;
    told.add(full);
    if (definition.fields === undefined) return definition;
    const fields = definition.fields.map((field: any) => ({ ...field, type: inFull(field.type, definitions, told) }));
    return { ...definition, fields };
  }
  if (Array.isArray(schema)) return schema.map((branch) => inFull(branch, definitions, told));
  if (schema === null || typeof schema !== "object") return schema;
  const parts = ["type", "items", "values"].filter((key) => key in schema);
  return { ...schema, ...Object.fromEntries(parts.map((key) => [key, inFull(schema[key], definitions, told)])) };
}
