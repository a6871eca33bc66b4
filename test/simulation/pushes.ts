/** What clients push in a run, and what must be there of it: of each feature the newest of what was acknowledged, or something newer that was sent. */
import { bucketOf, pushedKey } from "../../adapters/valkey/layout.ts";
import { isNewer, unpackValues } from "../../adapters/valkey/packed.ts";
import type { Dtype, Scalar } from "../../core/plan.ts";
import { type PushedFeature, storedView } from "../../core/pushed-feature.ts";
import type { SimulatedServer } from "./connection.ts";
import type { Dice } from "./dice.ts";

const TYPES: readonly Dtype[] = ["double", "int64", "string"];
const VIEW = "profile";
export const PUSHED_FEATURES: readonly PushedFeature[] = TYPES.map((dtype, f) => ({
  ...{ id: f + 1, view: VIEW, key: `f${f}`, version: 1, entity: "card", dtype, ttlMs: 86_400_000 },
  ...{ description: "", unit: "", owner: "", tags: [], deprecated: null, registeredMs: 0 },
}));

/** Values of one card, as they were true at one time. */
export interface SimulatedPush {
  readonly name: string;
  readonly atMs: number;
  readonly tenant: string;
  readonly id: string;
  readonly eventTimeMs: number;
  /** By feature; undefined for one that isn't pushed. */
  readonly values: readonly (Scalar | undefined)[];
  sent: boolean;
  acknowledged: boolean;
}

/** Times are coarse, so that some are the same for different values. */
const TICK_MS = 5_000;

export function pushesOf(
  dice: Dice,
  of: { readonly count: number; readonly startMs: number; readonly durationMs: number; readonly tenants: number },
): SimulatedPush[] {
  return Array.from({ length: of.count }, (_, p) => {
    const name = `push${p}`;
    const atMs = of.startMs + dice.unit(`${name} at`) * of.durationMs;
    const age = dice.unit(`${name} old`) < 0.2 ? 1_800_000 : 60_000;
    const value = (f: number): Scalar | undefined => {
      const label = `${name} f${f}`;
      if (dice.unit(`${label} is`) < 0.25) return undefined;
      if (dice.unit(`${label} null`) < 0.1) return null;
      const whole = dice.below(label, 1_000);
      return TYPES[f] === "string" ? `v${whole}` : TYPES[f] === "double" ? whole / 8 : whole;
    };
    const values = TYPES.map((_type, f) => value(f));
    return {
      ...{
        name,
        atMs,
        tenant: `t${dice.below(`${name} tenant`, of.tenants)}`,
        id: `c${dice.below(`${name} card`, 6)}`,
      },
      eventTimeMs: Math.floor((atMs - dice.unit(`${name} age`) * age) / TICK_MS) * TICK_MS,
      values: values.every((each) => each === undefined) ? [0, 0, "0"] : values,
      ...{ sent: false, acknowledged: false },
    };
  });
}

/** @param erasedMs time before which nothing of a card is known any more; 0 for never @returns what is wrong */
export async function comparePushed(
  server: SimulatedServer,
  pushes: readonly SimulatedPush[],
  erasedMs: (tenant: string, id: string) => number,
): Promise<{ compared: number; wrong: string[] }> {
  const wrong: string[] = [];
  let compared = 0;
  const cards = Map.groupBy(pushes, ({ tenant, id }) => `${tenant}/${id}`);
  for (const [card, own] of cards) {
    const [{ tenant, id }] = own;
    const key = pushedKey(bucketOf(tenant, "card", id), tenant, "card", id);
    const [raw] = await server.store.raw.demand([{ key, name: "HGET", args: [key, storedView(VIEW)] }]);
    const stored = raw === null ? new Map() : unpackValues(raw as Buffer);
    for (const [f, { id: feature, dtype }] of PUSHED_FEATURES.entries()) {
      compared++;
      const known = own.flatMap((push) => {
        const value = push.values[f];
        if (value === undefined || !push.sent || push.eventTimeMs < erasedMs(tenant, id)) return [];
        const { eventTimeMs, acknowledged } = push;
        return [{ id: feature, dtype, value, eventTimeMs, acknowledged }];
      });
      const given = stored.get(feature);
      const needed = known.filter(({ acknowledged }) => acknowledged);
      const what = `${card} f${f}: ${given === undefined ? "nothing" : `${given.value} of ${given.eventTimeMs}`}`;
      if (given === undefined) {
        if (needed.length > 0) wrong.push(`${what}, and ${needed.length} values were acknowledged`);
        continue;
      }
      const same = known.find(
        ({ value, eventTimeMs }) => Object.is(value, given.value) && eventTimeMs === given.eventTimeMs,
      );
      if (same === undefined) wrong.push(`${what}, which nobody has sent`);
      else {
        const newer = needed.find((each) => isNewer(each, same));
        if (newer !== undefined) wrong.push(`${what}, and ${newer.value} of ${newer.eventTimeMs} was acknowledged`);
      }
    }
  }
  return { compared, wrong };
}
