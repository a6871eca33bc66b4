/**
 * Properties draw by FRESHET_SEED where it is set. `make test` sets it (tally.ts): what has passed there once passes everywhere. Elsewhere
 * each run draws anew, and what fails tells its seed.
 */
const seed = process.env["FRESHET_SEED"];
if (seed !== undefined) {
  const { default: fc } = await import("fast-check");
  fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(seed) });
}
