import type { Scalar, Where } from "./plan.ts";

/** The fields of one event, by name. An absent field is null. */
export type Fields = Readonly<Record<string, unknown>>;

/** A condition over the fields named in `F`; plain data once compiled. */
export interface Condition<F extends string = string> {
  readonly where: Where;
  /** Never set: carries the names of the fields to the type checker. */
  readonly fields?: F;
}

const compare =
  (op: "eq" | "ne" | "lt" | "lte" | "gt" | "gte") =>
  <F extends string>(field: F, value: Exclude<Scalar, null>): Condition<F> => ({ where: { op, field, value } });

export const eq = compare("eq");
/** True for a null too: null never equals anything. */
export const ne = compare("ne");
export const lt = compare("lt");
export const lte = compare("lte");
export const gt = compare("gt");
export const gte = compare("gte");
export const isIn = <F extends string>(field: F, values: readonly Exclude<Scalar, null>[]): Condition<F> => ({
  where: { op: "in", field, values },
});
export const isNull = <F extends string>(field: F): Condition<F> => ({ where: { op: "isNull", field } });
export const and = <F extends string>(...of: Condition<F>[]): Condition<F> => ({
  where: { op: "and", of: of.map((c) => c.where) },
});
export const or = <F extends string>(...of: Condition<F>[]): Condition<F> => ({
  where: { op: "or", of: of.map((c) => c.where) },
});
export const not = <F extends string>(of: Condition<F>): Condition<F> => ({ where: { op: "not", of: of.where } });

/** Strings compare as UTF-8 bytes, as SQL's binary collation does; JavaScript's own order differs above U+FFFF. */
export function compareUtf8(a: string, b: string): number {
  if (a === b) return 0;
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return rank(x) - rank(y);
  }
  return a.length - b.length;
}
/** Surrogates stand for code points above every other UTF-16 unit, so they rank last. */
const rank = (unit: number): number => (unit >= 0xe000 ? unit - 0x800 : unit >= 0xd800 ? unit + 0x2000 : unit);

const ordered =
  (field: string, value: Scalar, holds: (order: number) => boolean) =>
  (fields: Fields): boolean => {
    const given = fields[field];
    if (given === null || given === undefined || typeof given !== typeof value) return false;
    if (typeof given === "string") return holds(compareUtf8(given, value as string));
    return holds(Number(given) - Number(value));
  };

/** Compiles a condition once; the result is called for every event. Never throws and never returns "unknown". */
export function compileWhere(where: Where): (fields: Fields) => boolean {
  switch (where.op) {
    case "eq":
      return ({ [where.field]: given }) => given === where.value;
    case "ne":
      return ({ [where.field]: given }) => given !== where.value;
    case "lt":
      return ordered(where.field, where.value, (order) => order < 0);
    case "lte":
      return ordered(where.field, where.value, (order) => order <= 0);
    case "gt":
      return ordered(where.field, where.value, (order) => order > 0);
    case "gte":
      return ordered(where.field, where.value, (order) => order >= 0);
    case "in": {
      const values = new Set<unknown>(where.values);
      return ({ [where.field]: given }) => values.has(given);
    }
    case "isNull":
      return ({ [where.field]: given }) => given === null || given === undefined;
    case "and": {
      const all = where.of.map(compileWhere);
      return (fields) => all.every((holds) => holds(fields));
    }
    case "or": {
      const any = where.of.map(compileWhere);
      return (fields) => any.some((holds) => holds(fields));
    }
    case "not": {
      const inner = compileWhere(where.of);
      return (fields) => !inner(fields);
    }
  }
}

/** The same condition as SQL that DuckDB and Trino read alike, two-valued (`IS NOT DISTINCT FROM`, never a bare `=`). */
export function whereToSql(where: Where): string {
  const column = (field: string) => `"${field.replaceAll('"', '""')}"`;
  switch (where.op) {
    case "eq":
      return `(${column(where.field)} IS NOT DISTINCT FROM ${literal(where.value)})`;
    case "ne":
      return `(${column(where.field)} IS DISTINCT FROM ${literal(where.value)})`;
    case "lt":
    case "lte":
    case "gt":
    case "gte": {
      const sign = { lt: "<", lte: "<=", gt: ">", gte: ">=" }[where.op];
      return `COALESCE(${column(where.field)} ${sign} ${literal(where.value)}, FALSE)`;
    }
    case "in":
      if (where.values.length === 0) return "FALSE";
      return `COALESCE(${column(where.field)} IN (${where.values.map(literal).join(", ")}), FALSE)`;
    case "isNull":
      return `(${column(where.field)} IS NULL)`;
    case "and":
    case "or":
      if (where.of.length === 0) return where.op === "and" ? "TRUE" : "FALSE";
      return `(${where.of.map(whereToSql).join(where.op === "and" ? " AND " : " OR ")})`;
    case "not":
      return `(NOT ${whereToSql(where.of)})`;
  }
}

function literal(value: Scalar): string {
  if (value === null) return "NULL";
  if (typeof value === "string") return `'${value.replaceAll("'", "''")}'`;
  if (typeof value === "boolean") return value ? "TRUE" : "FALSE";
  return Number.isSafeInteger(value) ? String(value) : `CAST('${value}' AS double)`;
}

/** Every field that a condition names, with the values that it is compared with. */
export function literalsOf(where: Where): { field: string; values: readonly Scalar[] }[] {
  switch (where.op) {
    case "isNull":
      return [{ field: where.field, values: [] }];
    case "in":
      return [{ field: where.field, values: where.values }];
    case "and":
    case "or":
      return where.of.flatMap(literalsOf);
    case "not":
      return literalsOf(where.of);
    default:
      return [{ field: where.field, values: [where.value] }];
  }
}
