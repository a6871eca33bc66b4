/**
 * How often a property is tried. `npm run check` tries each a fifth as often, by FRESHET_RUNS=quick, so that the inner loop stays
 * short; `make test` and a file run by itself try all of it. Where a seed is fixed, a short run is the beginning of the whole one.
 * Not for a test that counts what its runs have met.
 */
export const runs = (whole: number): number =>
  process.env["FRESHET_RUNS"] === "quick" ? Math.max(5, Math.ceil(whole / 5)) : whole;
