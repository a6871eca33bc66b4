import type { InterfaceVpcEndpointAwsService } from "aws-cdk-lib/aws-ec2";
import type { Construct } from "constructs";
import type { EventStreams } from "./constructs/event-streams.ts";
import type { OnlineStore } from "./constructs/online-store.ts";
import type { Deployment } from "./deployment.ts";

/**
 * What carries events from ingest to aggregation. A target has one, as it has one online store; all that differs between
 * brokers in the template is in the files under `brokers/`.
 */
export interface Broker {
  readonly name: "kinesis" | "kafka";
  /** Availability zones that it needs of the network. */
  zones(deployment: Deployment): number;
  /** Services that functions in the network reach by an endpoint, which is paid by the hour and zone; by the endpoint's name. */
  endpoints(deployment: Deployment): Readonly<Record<string, InterfaceVpcEndpointAwsService>>;
  /** @param store whose network a broker shares that is in one */
  eventStreams(scope: Construct, id: string, deployment: Deployment, store: OnlineStore): EventStreams;
}
