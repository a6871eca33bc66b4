/**
 * Every suite, with one line at the end that sums them up: `node test/run.ts`. Those that need a broker or a registry are named:
 * `node test/run.ts kafka|registry`. Checks of the source (format, lint, types) count as one test each. Everything is run even
 * when something has failed.
 */
import { conclude, sourceCheck, type Tally, vitest } from "./tally.ts";

/** Projects one after the other, each with the whole machine. */
async function inTurn(...projects: readonly string[]): Promise<Tally[]> {
  const tallies: Tally[] = [];
  for (const project of projects) tallies.push(await vitest([project]));
  return tallies;
}

/** Of `store`, what asks for a processor and for little else: it runs beside a suite that mostly waits. */
const COMPUTING = ["test/simulation/", "test/lib/", "test/adapters/offline/", "test/functions/shared/build/"];

async function computing(): Promise<Tally[]> {
  return [
    await sourceCheck("format and lint", "biome", ["check", "."]),
    await sourceCheck("types", "tsc", ["--noEmit"]),
    await vitest(["unit"], { workers: 1 }),
    await vitest(["store"], { workers: 1, only: COMPUTING }),
  ];
}

const SUITES: Readonly<Record<string, () => Promise<Tally[]>>> = {
  // Files of `system` share one deployment and run one at a time, waiting for others more than they work: that leaves a processor.
  all: async () => [
    ...(await Promise.all([computing(), inTurn("system")])).flat(),
    await vitest(["store"], { except: COMPUTING }),
  ],
  // Kinesis under the same contract, too.
  kafka: () => inTurn("kafka", "kafka-system", "kinesis-system"),
  registry: () => inTurn("registry"),
};

const started = performance.now();
const suite = SUITES[process.argv[2] ?? "all"];
if (suite === undefined) {
  process.stderr.write(`usage: node test/run.ts [${Object.keys(SUITES).join("|")}]\n`);
  process.exit(2);
}
conclude(await suite(), started);
