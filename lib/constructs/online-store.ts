import type { Board } from "./board.ts";
import type { NodeFunction, Placement } from "./node-function.ts";

/** The Valkey that functions read and write, however the target provides it. */
export interface OnlineStore {
  /** Where a function has to run to reach the store: given to the function when it is made. */
  readonly placement: Placement;
  grantRead(fn: NodeFunction): void;
  grantReadWrite(fn: NodeFunction): void;
  /** Shows the store's own health, where it has any. */
  watch(board: Board): void;
}
