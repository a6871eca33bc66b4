/**
 * Every suite, with one line at the end that sums them up: `node test/run.ts`. Those that need a broker or a registry are named:
 * `node test/run.ts kafka|registry`. Checks of the source (format, lint, types) count as one test each. Everything is run even
 * when something has failed.
 */
import { conclude, sourceCheck, type Tally, vitest } from "./tally.ts";

/** Projects of one list share the machine; lists run one after the other. */
async function inTurn(...lists: readonly string[][]): Promise<Tally[]> {
  const tallies: Tally[] = [];
  for (const projects of lists) tallies.push(await vitest(projects));
  return tallies;
}

const SUITES: Readonly<Record<string, () => Promise<Tally[]>>> = {
  all: async () => [
    ...(await Promise.all([
      sourceCheck("format and lint", "biome", ["check", "."]),
      sourceCheck("types", "tsc", ["--noEmit"]),
    ])),
    ...(await inTurn(["unit", "store"], ["system"])),
  ],
  // Kinesis under the same contract, too.
  kafka: () => inTurn(["kafka"], ["kafka-system"], ["kinesis-system"]),
  registry: () => inTurn(["registry"]),
};

const started = performance.now();
const suite = SUITES[process.argv[2] ?? "all"];
if (suite === undefined) {
  process.stderr.write(`usage: node test/run.ts [${Object.keys(SUITES).join("|")}]\n`);
  process.exit(2);
}
conclude(await suite(), started);
