/** What a benchmark is: a module that measures in rounds and hands back rows, each beside its baselines. */

import type { LaptopBroker } from "../local/state.ts";

export type Unit = "rows/s" | "events/s" | "requests/s" | "µs" | "ms" | "bytes" | "keys" | "calls" | "×" | "%";

export interface Baseline {
  readonly name: string;
  /** One value a round, of the same rounds as the row's. */
  readonly rounds: readonly number[];
}
export interface Row {
  readonly what: string;
  readonly unit: Unit;
  /** One value a round. */
  readonly rounds: readonly number[];
  /** What DESIGN §13 asks for. @default none: the row explains another one */
  readonly target?: { readonly atLeast: number } | { readonly atMost: number };
  readonly baselines?: readonly Baseline[];
  /** What a reader must know to read the number right. */
  readonly note?: string;
}

export interface BenchmarkOptions {
  /** Small and rough: shows that it runs, not what it reaches. */
  readonly quick: boolean;
  /** For what a broker has part in. */
  readonly brokers: readonly LaptopBroker[];
  readonly signal: AbortSignal;
  /** One line of progress. */
  readonly say: (text: string) => void;
}

export interface Benchmark {
  readonly title: string;
  run(options: BenchmarkOptions): Promise<Row[]>;
}

/**
 * Every benchmark by name. Each runs in a process of its own: what one leaves in the heap and in the compiler's profile must
 * not show in the next one's numbers.
 */
export const BENCHMARKS: Readonly<
  Record<
    string,
    {
      readonly limitS: number;
      /** Runs when it is asked for alone, and has a result of its own: it takes long, or needs what the others do without. */
      readonly apart?: true;
      load(): Promise<{ benchmark: Benchmark }>;
    }
  >
> = {
  aggregate: { limitS: 900, load: () => import("./aggregate.ts") },
  build: { limitS: 900, load: () => import("./build.ts") },
  repair: { limitS: 900, load: () => import("./repair.ts") },
  archive: { limitS: 600, load: () => import("./archive.ts") },
  "point-in-time": { limitS: 900, load: () => import("./point-in-time.ts") },
  pipeline: { limitS: 1_800, load: () => import("./pipeline.ts") },
  online: { limitS: 900, load: () => import("./online.ts") },
  score: { limitS: 600, load: () => import("./score.ts") },
  rank: { limitS: 600, load: () => import("./rank.ts") },
  tenants: { limitS: 600, load: () => import("./tenants.ts") },
  memory: { limitS: 600, load: () => import("./memory.ts") },
  soak: { limitS: 1_800, apart: true, load: () => import("./soak.ts") },
  restore: { limitS: 1_800, apart: true, load: () => import("./restore.ts") },
  outage: { limitS: 1_800, apart: true, load: () => import("./outage.ts") },
  feast: { limitS: 600, apart: true, load: () => import("./feast.ts") },
};
