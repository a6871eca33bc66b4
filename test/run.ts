/**
 * Every suite, with one line at the end that sums them up. Checks of the source (format, lint, types) count as one test each.
 * Everything is run even when something has failed.
 */
import { conclude, sourceCheck, vitest } from "./tally.ts";

const started = performance.now();
conclude(
  [
    await sourceCheck("format and lint", "biome", ["check", "."]),
    await sourceCheck("types", "tsc", ["--noEmit"]),
    await vitest(["unit", "store"]),
    await vitest(["system"]),
  ],
  started,
);
