/** How large a run is and what it is like, by its seed: few faults or many, one shard or several, few keys or many. */
import { Dice } from "./dice.ts";
import type { Traffic } from "./events.ts";

const MINUTE = 60_000;
/** Those that a run may have more or less of than others. */
const KINDS = [
  ["stall", "given up", "acknowledgement lost", "rewound", "retry reaches further"],
  ["crash before", "crash after", "cut off"],
  ["refused", "answer lost"],
  ["late", "too late", "far too late", "ahead", "producer repeats"],
];

export interface Profile {
  readonly traffic: Omit<Traffic, "startMs">;
  readonly mapping: {
    readonly shards: number;
    readonly lanes: number;
    readonly batchSize: number;
    readonly windowMs: number;
  };
  readonly weights: Readonly<Record<string, number>>;
}

/** @param events about how many. @default by the seed */
export function profileOf(seed: number, events?: number): Profile {
  const dice = new Dice(seed);
  const weights: Record<string, number> = {};
  for (const [k, kinds] of KINDS.entries()) {
    const weight = dice.pick(`weight ${k}`, [0, 0.5, 1, 2, 5]);
    for (const kind of kinds) weights[kind] = weight;
  }
  const size = events ?? Math.round(6_000 * 8 ** dice.unit("size"));
  const durationMs = dice.between("duration", 5, 35) * MINUTE;
  const shards = 1 + dice.below("shards", 3);
  const lanes = dice.pick("lanes", [1, 1, 2, 4]);
  const batchSize = dice.pick("batch", [30, 300, 300, 1_500]);
  // So that about a third of the batch size comes together.
  const windowMs = Math.min(15_000, Math.max(1_000, (batchSize * lanes * shards * durationMs) / size));
  return {
    traffic: {
      durationMs,
      events: size,
      tenants: 1 + dice.below("tenants", 2),
      cards: 3 + dice.below("cards", 30),
      merchants: 2 + dice.below("merchants", 8),
      devices: 2 + dice.below("devices", 10),
      repeatedMs: dice.pick("repeated", [60_000, 300_000, 600_000, 3_600_000]),
      packed: dice.pick("packed", [0, 0.5, 0.9]),
    },
    mapping: { shards, lanes, batchSize, windowMs },
    weights,
  };
}
