/** Whose code a run is over: the product's own, or one that must be caught. */
import * as alternatives from "./fixtures/alternatives.ts";
import * as mutations from "./fixtures/mutations.ts";
import type { Design } from "./functions.ts";

/** Made anew for each run: some keep marks. */
export const DESIGNS: Readonly<Record<string, () => Design>> = {
  freshet: () => ({}),
  ...Object.fromEntries(
    Object.entries({ ...alternatives, ...mutations }).map(([name, design]) => [
      name,
      typeof design === "function" ? design : () => design,
    ]),
  ),
};

export const WRONG: readonly string[] = Object.keys(DESIGNS).filter((name) => name !== "freshet");
