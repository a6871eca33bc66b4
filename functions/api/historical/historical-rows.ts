/** Rows of a caller's own, which a historical job is given. */
import { typeName } from "../../../core/errors.ts";
import type { JsonObject } from "../body.ts";
import { Problem, shorten } from "../problems.ts";

/** With a kilobyte each they fill the body. */
const MAX_ROWS = 5_000;
/** Of a column's value: beyond that it could not be written down again. */
const MAX_DEPTH = 32;

/**
 * @param joinKeys of all entities
 * @throws Problem `wrong_type`, `too_many_rows`, `key_invalid`, `text_invalid`, `row_shape`
 */
export function rowsOf(given: unknown, joinKeys: ReadonlySet<string>): readonly unknown[] | null {
  if (given === undefined || given === null) return null;
  const repair = 'send objects as {"as_of_ms": 1794268800000, "card_id": "c1", "amount": 12.5}';
  if (!Array.isArray(given) || given.length === 0) {
    throw new Problem("wrong_type", `rows is an array of objects, given ${typeName(given)}`, { field: "rows", repair });
  }
  if (given.length > MAX_ROWS) {
    throw new Problem("too_many_rows", `a request brings at most ${MAX_ROWS} rows, given ${given.length}`, {
      field: "rows",
      repair: "send several requests, or use freshet training-set --spine with a file",
    });
  }
  const wrong = given.findIndex((row) => typeof row !== "object" || row === null || Array.isArray(row));
  if (wrong >= 0) {
    throw new Problem("wrong_type", `rows[${wrong}] is an object, given ${typeName(given[wrong])}`, {
      field: `rows[${wrong}]`,
      repair,
    });
  }
  given.forEach((row: JsonObject, i) => {
    for (const [name, value] of Object.entries(row)) {
      // Of a name that is none only the row can be told.
      if (!name.isWellFormed()) throw notText(`rows[${i}]`, "text_invalid", "has a name that is");
      checkTexts(value, `rows[${i}].${shorten(name)}`, joinKeys.has(name) ? "key_invalid" : "text_invalid");
    }
  });
  return given;
}

/** Half a surrogate pair has no UTF-8 form: the job would fail over it. */
function checkTexts(value: unknown, field: string, code: "key_invalid" | "text_invalid"): void {
  let level = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) {
      throw new Problem("row_shape", `${field} is nested in more than ${MAX_DEPTH} levels`, {
        field,
        repair: "send its parts as columns of their own",
      });
    }
    const below: unknown[] = [];
    for (const one of level) {
      if (typeof one === "string" && !one.isWellFormed()) throw notText(field, code, "is");
      if (typeof one === "object" && one !== null)
        for (const [name, part] of Object.entries(one)) below.push(name, part);
    }
    level = below;
  }
}

const notText = (field: string, code: "key_invalid" | "text_invalid", what: string) =>
  new Problem(code, `${field} ${what} not valid Unicode text`, { field, repair: "send UTF-8 text" });
