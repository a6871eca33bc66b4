/** Which faults come when: drawn from a seed, so that a run can be made again. */
import { Random } from "../generator/random.ts";

/** What a fault hits. Two at once never hit the same. */
type Target = "store" | "network" | "function" | "api" | "broker" | "tables";

interface FaultKind {
  readonly target: Target;
  /** How long it lasts, in ms. */
  readonly forMs: readonly [number, number];
  /** What a reader of the log is told. */
  readonly says: string;
}

export const FAULTS = {
  "store-killed": {
    target: "store",
    forMs: [300, 4_000],
    says: "Valkey is killed, and started with what its file holds",
  },
  "store-cut-short": {
    target: "store",
    forMs: [300, 3_000],
    says: "Valkey is killed, and loses up to its last second, as in a power cut",
  },
  "store-paused": { target: "store", forMs: [1_000, 12_000], says: "Valkey is stopped and goes on" },
  "store-restarted": { target: "store", forMs: [0, 2_000], says: "Valkey is ended in order and started" },
  "store-full": { target: "store", forMs: [3_000, 10_000], says: "Valkey is at its maxmemory" },
  "connections-cut": {
    target: "network",
    forMs: [1_000, 6_000],
    says: "connections to Valkey are cut again and again",
  },
  "connections-torn": {
    target: "network",
    forMs: [2_000, 8_000],
    says: "connections end within a request or an answer",
  },
  "store-mute": { target: "network", forMs: [1_000, 8_000], says: "Valkey's answers do not arrive" },
  "store-unreachable": { target: "network", forMs: [1_000, 8_000], says: "Valkey refuses connections" },
  "function-killed": {
    target: "function",
    forMs: [2_000, 8_000],
    says: "workers of the aggregate function are killed",
  },
  "function-paused": {
    target: "function",
    forMs: [2_000, 25_000],
    says: "workers of the aggregate function are stopped and go on",
  },
  "api-killed": { target: "api", forMs: [0, 3_000], says: "an API server is killed and started" },
  "api-paused": { target: "api", forMs: [1_000, 8_000], says: "an API server is stopped and goes on" },
  "broker-paused": {
    target: "broker",
    forMs: [1_000, 8_000],
    says: "the emulator with all functions is stopped and goes on",
  },
  "broker-restarted": {
    target: "broker",
    forMs: [0, 2_000],
    says: "the emulator is ended in order and started with its state",
  },
  "archive-failing": { target: "tables", forMs: [3_000, 12_000], says: "S3 refuses most writes" },
  "archive-deaf": { target: "tables", forMs: [3_000, 12_000], says: "S3 writes and its answers are lost" },
  "tables-failing": { target: "tables", forMs: [3_000, 12_000], says: "DynamoDB fails at every other request" },
} as const satisfies Readonly<Record<string, FaultKind>>;

export type FaultName = keyof typeof FAULTS;

export interface PlannedFault {
  readonly name: FaultName;
  /** Since the load began. */
  readonly atMs: number;
  readonly forMs: number;
  /** Of the fault's own draws. */
  readonly seed: number;
}

/** Between the end of one fault and the next. */
const PAUSE_MS = [2_000, 9_000] as const;
/** Of ten faults three come while the one before still lasts; never three at once. */
const TOGETHER = 0.3;

/**
 * Every kind comes once before any comes twice.
 * @param forMs of the whole run; the last fault ends before it
 */
export function planFaults(seed: number, forMs: number): PlannedFault[] {
  const random = new Random(seed, 21);
  const planned: PlannedFault[] = [];
  let deck: FaultName[] = [];
  let nextMs = random.between(...PAUSE_MS);
  let alone: PlannedFault | null = null;
  for (;;) {
    if (deck.length === 0) deck = shuffled(Object.keys(FAULTS) as FaultName[], random);
    const beside: FaultName | undefined = alone !== null && random.chance(TOGETHER) ? besides(deck, alone) : undefined;
    const name: FaultName = beside ?? deck[0];
    deck.splice(deck.indexOf(name), 1);
    const [least, most] = FAULTS[name].forMs;
    const forThisMs = Math.round(random.between(least, most));
    const atMs = Math.round(beside === undefined ? nextMs : alone!.atMs + random.next() * alone!.forMs);
    if (atMs + forThisMs > forMs) return planned;
    const fault: PlannedFault = { name, atMs, forMs: forThisMs, seed: random.whole(0, 2 ** 32 - 1) };
    planned.push(fault);
    alone = beside === undefined ? fault : null;
    nextMs = Math.max(nextMs, atMs + forThisMs + random.between(...PAUSE_MS));
  }
}

const besides = (deck: readonly FaultName[], other: PlannedFault): FaultName | undefined =>
  deck.find((name) => FAULTS[name].target !== FAULTS[other.name].target);

function shuffled<T>(items: T[], random: Random): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.whole(0, i);
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}
