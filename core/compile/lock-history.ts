/**
 * Whether a lock may be deployed on a store that has been filled under others. The lock in the checkout says what ids mean;
 * one that comes back from the past (`git revert`) may give an id another meaning than stored bytes have, or claim windows
 * whose tiles are gone. So the deployment keeps all meanings it has ever seen, and this compares.
 */

import { DefinitionError } from "../errors.ts";
import { isObject } from "../operators/accumulators.ts";
import type { SlotKind } from "../plan.ts";
import { type GroupLock, keptFor, type Lock, retireGroup, type SlotLock, windowOf } from "./lock.ts";

export interface SlotName {
  readonly group: string;
  readonly object: boolean;
  readonly id: number;
}
export interface LockStep {
  /** Every meaning that an id has ever had here, and what each slot has been kept for up to now. */
  readonly lock: Lock;
  /** Slots that are claimed to have been kept for more than they were: they have to begin anew. */
  readonly overclaimed: readonly SlotName[];
}

/**
 * @param known what the store has been filled under
 * @param given of the plan that is deployed now
 * @throws DefinitionError `plan_lock_contradicts` when an id means something else in each: stored bytes would be read for
 *   what they are not
 */
export function followLock(known: Lock, given: Lock): LockStep {
  assertSame("group", "the store", idsOf(known.groups), idsOf(given.groups));
  const groups: Record<string, GroupLock> = {};
  const overclaimed: SlotName[] = [];
  for (const name of new Set([...Object.keys(known.groups), ...Object.keys(given.groups)])) {
    const before = known.groups[name];
    const now = given.groups[name];
    if (before === undefined || now === undefined) {
      groups[name] = now ?? retireGroup(before);
      continue;
    }
    if (before.baseMs !== now.baseMs) contradiction(`the base of ${name}`, `${now.baseMs} ms`, `${before.baseMs} ms`);
    assertSame("level", name, levelsOf(before), levelsOf(now));
    assertSame("slot", name, slotsOf(before), slotsOf(now));
    groups[name] = {
      ...now,
      levels: { ...before.levels, ...now.levels },
      slots: { ...retireGroup(before).slots, ...now.slots },
    };
    for (const [key, slot] of Object.entries(now.slots)) {
      const kept = before.slots[key];
      if (kept !== undefined && !wasKept(kept, slot))
        overclaimed.push({ group: name, object: objectSlot(key), id: slot.id });
    }
  }
  const pushed = followPushed(known.pushed ?? {}, given.pushed ?? {});
  return { lock: { version: 1, groups, ...(Object.keys(pushed).length > 0 ? { pushed } : {}) }, overclaimed };
}

/** Ids of batch views: of two lists one continues the other. */
function followPushed(
  known: Readonly<Record<string, readonly string[]>>,
  given: Readonly<Record<string, readonly string[]>>,
): Record<string, readonly string[]> {
  const pushed: Record<string, readonly string[]> = { ...known };
  for (const [view, ids] of Object.entries(given)) {
    const before = known[view] ?? [];
    ids.slice(0, before.length).forEach((meaning, id) => {
      if (before[id] !== meaning) contradiction(`value ${id} of ${view}`, meaning, before[id]);
    });
    if (ids.length > before.length) pushed[view] = ids;
  }
  return pushed;
}

const idsOf = (groups: Lock["groups"]): [string, string][] =>
  Object.entries(groups).map(([name, { id }]) => [`${id}`, name]);
const levelsOf = ({ levels }: GroupLock): [string, string][] =>
  Object.entries(levels).map(([size, { id, parts }]) => [`${id}`, `tiles of ${size} ms made of ${parts} ms`]);
/** Cells and objects are numbered apart. */
const slotsOf = ({ slots }: GroupLock): [string, string][] =>
  Object.entries(slots).map(([key, { id }]) => [`${objectSlot(key) ? "object" : "cell"} ${id}`, key]);

const objectSlot = (key: string): boolean => isObject(/^[a-z]+/i.exec(key)![0] as SlotKind);

/** An id has one meaning, and a meaning one id. */
function assertSame(
  what: string,
  where: string,
  known: readonly [string, string][],
  given: readonly [string, string][],
): void {
  const meanings = new Map(known);
  const ids = new Map(known.map(([id, meaning]) => [meaning, id]));
  for (const [id, meaning] of given) {
    const before = meanings.get(id);
    if (before !== undefined && before !== meaning) contradiction(`${what} ${id} of ${where}`, meaning, before);
    const other = ids.get(meaning);
    if (other !== undefined && other !== id)
      contradiction(`${meaning} of ${where}`, `${what} ${id}`, `${what} ${other}`);
  }
}

function contradiction(what: string, given: string, stored: string): never {
  throw new DefinitionError(
    "plan_lock_contradicts",
    `${what} is ${given} in this features/plan.lock.json, but ${stored} in what is stored: the lock is older than the store`,
    {
      repair:
        "take the newest plan.lock.json that was deployed, keep features/*.ts, run `freshet plan --write`, deploy",
    },
  );
}

const wasKept = (kept: SlotLock, claimed: SlotLock): boolean =>
  claimed.levels.every((sizeMs) => kept.levels.includes(sizeMs)) &&
  claimed.windows.every((text) => kept.windows.some((other) => keptFor(other, windowOf(text))));
