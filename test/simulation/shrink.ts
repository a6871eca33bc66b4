/** From a run that fails to a small one: which of its events and faults it takes. */

/**
 * Delta debugging (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002): leaves out ever smaller parts for
 * as long as it still fails without them.
 * @param fails whether it fails with these alone
 * @param goOn asked before each attempt
 */
async function smallest<T>(
  items: readonly T[],
  fails: (items: readonly T[]) => Promise<boolean>,
  goOn: () => boolean,
): Promise<readonly T[]> {
  if (items.length === 0 || (goOn() && (await fails([])))) return [];
  let left = items;
  let parts = 2;
  while (left.length > 1 && goOn()) {
    const size = Math.ceil(left.length / parts);
    let found = false;
    for (let from = 0; from < left.length && goOn(); from += size) {
      const without = [...left.slice(0, from), ...left.slice(from + size)];
      if (!(await fails(without))) continue;
      left = without;
      parts = Math.max(parts - 1, 2);
      found = true;
      break;
    }
    if (found) continue;
    if (size === 1) break;
    parts = Math.min(left.length, parts * 2);
  }
  return left;
}

export interface Schedule {
  readonly seed: number;
  readonly size: number | null;
  /** Events that are sent, by index; null for all. */
  readonly events: readonly number[] | null;
  readonly faults: readonly string[];
}

/**
 * @param size of the run, where it wasn't the seed's own
 * @param sent indices of its events
 * @param fired its faults
 * @param fails whether a schedule still fails
 */
export async function shrink(
  seed: number,
  size: number | null,
  sent: readonly number[],
  fired: readonly string[],
  fails: (schedule: Schedule) => Promise<boolean>,
  goOn: () => boolean,
): Promise<Schedule> {
  let schedule: Schedule = { seed, size, events: null, faults: [...new Set(fired)] };
  // Kinds of faults first, since most of them have nothing to do with it.
  const kinds = [...new Set(schedule.faults.map(kindOf))];
  const withKinds = (wanted: readonly string[]) => ({
    ...schedule,
    faults: schedule.faults.filter((fault) => wanted.includes(kindOf(fault))),
  });
  schedule = withKinds(await smallest(kinds, (wanted) => fails(withKinds(wanted)), goOn));
  schedule = { ...schedule, events: await smallest(sent, (events) => fails({ ...schedule, events }), goOn) };
  const faults = await smallest(schedule.faults, (wanted) => fails({ ...schedule, faults: wanted }), goOn);
  schedule = { ...schedule, faults };
  return { ...schedule, events: await smallest(schedule.events!, (events) => fails({ ...schedule, events }), goOn) };
}

const kindOf = (fault: string): string => fault.slice(0, fault.indexOf("@"));
