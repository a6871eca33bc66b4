/** Join keys as Feast's clients send them: texts, and integers where the registry declares the entity so. */
import { typeName } from "../../../core/errors.ts";
import { Problem } from "../problems.ts";
import { checkKey } from "../reading/selection.ts";

/**
 * Ids are texts here: 1 is "1", and 1.0 too, since JSON tells no difference. 1.5, true, and integers that a double cannot hold are refused.
 * @param field path in the request, for errors
 * @throws Problem `wrong_type`, `key_invalid`, `key_too_long`
 */
export function keyText(value: unknown, name: string, field: string): string | null {
  if (value === null) return null;
  if (typeof value === "string") return checkKey(value, field);
  if (typeof value === "number" && Number.isSafeInteger(value)) return String(value);
  // Digits that a double does not hold were lost before: what is told must not be another number than was sent.
  const given = typeof value !== "number" ? typeName(value) : Number.isInteger(value) ? "a larger one" : String(value);
  throw new Problem("wrong_type", `${name} is a text, a whole number below 2^53 or null, given ${given}`, {
    field,
    repair: `send it in quotes, as "${name}": ["c1"]`,
  });
}
