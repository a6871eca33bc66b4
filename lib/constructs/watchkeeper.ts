import { Duration } from "aws-cdk-lib";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { EventStreams } from "./event-streams.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import { Schedule } from "./schedule.ts";
import type { SecureTable } from "./secure-table.ts";

export interface WatchkeeperProps {
  readonly deployment: Deployment;
  readonly streams: EventStreams;
  readonly store: OnlineStore;
  readonly controlTable: SecureTable;
}

/**
 * Advances the seal each minute. It takes two functions: the shards are known to Kinesis, which a function inside the VPC
 * cannot reach, and the registrations are in the store, which one outside cannot reach. So the heartbeat lists the shards,
 * puts a heartbeat on each, and hands the list to control.
 */
export class Watchkeeper extends Construct {
  readonly heartbeat: NodeFunction;
  readonly control: NodeFunction;

  constructor(scope: Construct, id: string, props: WatchkeeperProps) {
    super(scope, id);
    const { deployment, streams, store, controlTable } = props;
    this.control = new NodeFunction(this, "Control", {
      deployment,
      name: "control",
      description: "Creates the store's control hashes, loads its function library and advances the seal",
      placement: store.placement,
      timeout: Duration.seconds(50),
    });
    store.grantReadWrite(this.control);
    controlTable.grantReadWrite(this.control);
    this.control.set("aggregateTimeoutMs", String(deployment.stage.aggregation.timeoutSeconds * 1_000));
    this.heartbeat = new NodeFunction(this, "Heartbeat", {
      deployment,
      name: "heartbeat",
      description: "Puts a heartbeat on every open shard and hands the list of shards to control",
      // Less than its period: two at once would only repeat each other.
      timeout: Duration.seconds(55),
      memoryMb: 256,
    });
    streams.grantHeartbeat(this.heartbeat);
    this.control.grantInvoke(this.heartbeat, "controlFunction");
    new Schedule(this, "EveryMinute", { deployment, fn: this.heartbeat, every: Duration.minutes(1) });
  }
}
