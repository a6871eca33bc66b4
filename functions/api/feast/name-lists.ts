/** Lists of names in bodies of Feast's contract. */
import { typeName } from "../../../core/errors.ts";
import { Problem } from "../problems.ts";

/** @throws Problem `wrong_type`, of the list or of the item that is no name */
export function readNames(given: unknown, field: string, repair: string): readonly string[] {
  if (!Array.isArray(given)) {
    throw new Problem("wrong_type", `${field} is a list of names, given ${typeName(given)}`, { field, repair });
  }
  const wrong = given.findIndex((name) => typeof name !== "string");
  if (wrong < 0) return given;
  const item = `${field}[${wrong}]`;
  throw new Problem("wrong_type", `${item} is a name, given ${typeName(given[wrong])}`, { field: item, repair });
}
