import { Duration } from "aws-cdk-lib";
import type { IEventSourceDlq } from "aws-cdk-lib/aws-lambda";
import type { Construct } from "constructs";
import type { Stage } from "../stage.ts";
import type { Board } from "./board.ts";
import type { NodeFunction, Placement } from "./node-function.ts";

/** One stream or topic for each stream that the plan declares, however the broker provides it. */
export interface EventStreams {
  /** Where a function has to run that talks to the broker by itself; undefined where any place does. */
  readonly placement: Placement | undefined;
  /** Names by plan name, as JSON: what the environment and the outputs carry. */
  namesJson(scope: Construct): string;
  /** What operators and their commands have to know beside the names, by output. */
  readonly outputs: Readonly<Record<string, string>>;
  /** To send events: ingest. */
  grantPut(fn: NodeFunction): void;
  /** To list shards or partitions, and to send a heartbeat to each. */
  grantHeartbeat(fn: NodeFunction): void;
  /** To know which stream a record is of that is delivered again. */
  grantReplay(fn: NodeFunction): void;
  /** Has batches of every stream handed to a function, and what it never takes to a failure destination. */
  deliver(scope: Construct, fn: NodeFunction, onFailure: IEventSourceDlq): void;
  /** Shows the broker's own health, where it has any. */
  watch(board: Board): void;
}

/**
 * A batch that is tried for this long is given up to the failure destination while its records are still in the stream:
 * whoever is woken by the lag alarm has that long, and then an hour in which the stream can still be read.
 */
export const giveUpAfter = ({ stream }: Stage): Duration => Duration.hours(stream.retentionHours - 1);
