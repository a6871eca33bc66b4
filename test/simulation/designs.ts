/** Whose code a run is over: the product's own, or what it could have been. */
import type { Design } from "./functions.ts";

export const DESIGNS: Readonly<Record<string, Design>> = { freshet: {} };
