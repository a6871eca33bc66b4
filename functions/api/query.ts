/** Parameters of a URL, for calls that list and search. */
import { Problem, shorten, suggest } from "./problems.ts";
import type { RequestContext } from "./router.ts";

/**
 * One that is misspelt would else be one that is left out, and of one that is given twice the first would count.
 * @param what takes the parameters, as it begins the message
 * @throws Problem `field_unknown`, `wrong_type`
 */
export function checkParameters({ req }: RequestContext, known: readonly string[], what: string): void {
  if (!req.url.includes("?")) return;
  for (const name in req.query()) {
    if (known.includes(name)) continue;
    throw new Problem("field_unknown", `${what} has no parameter ${shorten(name)}`, {
      field: shorten(name),
      repair: known.length === 0 ? "leave it out: this call has no parameters" : suggest(name, known),
    });
  }
  const names = [...new URL(req.url).searchParams.keys()];
  const repeated = names.find((name, i) => names.indexOf(name) < i);
  if (repeated === undefined) return;
  const count = names.filter((name) => name === repeated).length;
  throw new Problem("wrong_type", `${repeated} is one value, given ${count}`, {
    field: repeated,
    repair: "send it once; where it takes several names, with commas between them",
  });
}

/** Ids that we give are shorter by far. What is longer is nobody's, and more than a table takes for a key. */
const MAX_ID = 100;
export const isPossibleId = (id: string): boolean => id.length <= MAX_ID;

/** How long a page may be that nobody asks otherwise for is the caller's to say; none is longer than this. */
const MAX_LIMIT = 500;

/** The parameter `limit`. @throws Problem `wrong_type` */
export function limitOf(given: string | undefined, usual: number): number {
  if (given === undefined) return usual;
  const limit = /^[1-9]\d{0,3}$/.test(given) ? Number(given) : 0;
  if (limit >= 1 && limit <= MAX_LIMIT) return limit;
  throw new Problem("wrong_type", `limit is a whole number from 1 to ${MAX_LIMIT}, given "${shorten(given)}"`, {
    field: "limit",
    repair: `leave it out for ${usual}`,
  });
}
