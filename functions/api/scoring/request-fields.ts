/** Request fields of a service: the values that only the caller knows. */
import { typeName } from "../../../core/errors.ts";
import type { Scalar, Service } from "../../../core/plan.ts";
import type { JsonObject } from "../body.ts";
import { Problem } from "../problems.ts";

const EXPECTED = { double: "a number", long: "a whole number", string: "a string", boolean: "true or false" } as const;

/**
 * Every declared field has to be there, so that a misspelt name is told and not scored; null says that there is no value.
 * @param pathOf where the request has a field, for errors
 * @throws Problem `field_missing`, `wrong_type`, `number_not_finite`, `number_too_large`
 */
export function readRequestFields(
  service: Service,
  given: JsonObject,
  pathOf: (name: string) => string,
): Record<string, Scalar> {
  const fields: Record<string, Scalar> = {};
  for (const name in service.request) {
    const type = service.request[name];
    const value = Object.hasOwn(given, name) ? given[name] : undefined;
    if (value === null) fields[name] = null;
    else if (typeof value === (type === "double" || type === "long" ? "number" : type)) {
      if (typeof value === "number") checkNumber(value, type, () => pathOf(name));
      fields[name] = value as Scalar;
    } else {
      const field = pathOf(name);
      throw new Problem(
        value === undefined ? "field_missing" : "wrong_type",
        `${field} is ${EXPECTED[type]} or null, given ${value === undefined ? "nothing" : typeName(value)}`,
        { field, repair: `send ${field} as ${EXPECTED[type]}` },
      );
    }
  }
  return fields;
}

function checkNumber(value: number, type: keyof typeof EXPECTED, pathOf: () => string): void {
  if (!Number.isFinite(value)) {
    const field = pathOf();
    throw new Problem("number_not_finite", `${field} is beyond the range of a double`, {
      field,
      repair: "send a finite number, or null",
    });
  }
  if (type !== "long" || Number.isSafeInteger(value)) return;
  const field = pathOf();
  throw new Problem(
    Number.isInteger(value) ? "number_too_large" : "wrong_type",
    `${field} is a whole number below 2^53, given ${value}`,
    { field, repair: "send a whole number that a double holds exactly" },
  );
}
