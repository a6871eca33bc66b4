/**
 * Sums that fade: each hop of a window has one weight, which halves every half-life, so that tiles keep plain sums and nothing
 * is rounded before the end. Weights are whole multiples of 2^-32, and the weighed total is an exact integer.
 */

import type { HoppingWindow } from "../plan.ts";
import type { ByAge } from "./accumulators.ts";
import { type Wide, wideToBigInt } from "./wide.ts";

const ONE = 32;
/** More hops than this would be as many tiles to read. */
export const MAX_HOPS = 1_000;

/** Age in hops of what starts at `startMs` and lies within a hop, in a window that ends at `endMs`; 0 for the newest hop. */
export const ageInHops = ({ hopMs }: HoppingWindow, endMs: number, startMs: number): number =>
  Math.floor((endMs - 1) / hopMs) - Math.floor(startMs / hopMs);

const WEIGHTS = new Map<string, readonly bigint[]>();

/** By age in hops, in units of 2^-32; ages past the end weigh nothing. */
function weightsOf(hopMs: number, halfLifeMs: number): readonly bigint[] {
  const name = `${hopMs}/${halfLifeMs}`;
  let weights = WEIGHTS.get(name);
  if (weights === undefined) {
    weights = Array.from({ length: MAX_HOPS + 1 }, (_, age) =>
      BigInt(Math.round(2 ** (ONE - (age * hopMs) / halfLifeMs))),
    );
    WEIGHTS.set(name, weights);
  }
  return weights;
}

/** Null over nothing. @param sums wide integers of minor units @param counts how many values each is of */
export function decayedTotal(
  sums: ByAge,
  counts: ByAge,
  { scale, hopMs, halfLifeMs }: { readonly scale: number; readonly hopMs: number; readonly halfLifeMs: number },
): number | null {
  const weights = weightsOf(hopMs, halfLifeMs);
  let total = 0n;
  let values = 0;
  sums.byAge.forEach((sum, age) => {
    const count = (counts.byAge[age] ?? 0) as number;
    if (count === 0) return;
    values += count;
    total += wideToBigInt(sum as Wide) * weights[age];
  });
  return values === 0 ? null : Number(total) / (2 ** ONE * 10 ** scale);
}
