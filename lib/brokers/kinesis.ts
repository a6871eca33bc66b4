import { InterfaceVpcEndpointAwsService } from "aws-cdk-lib/aws-ec2";
import type { Broker } from "../broker.ts";
import { KinesisStreams } from "../constructs/kinesis-streams.ts";
import { ingestUsesStore } from "../ingest-placement.ts";

/** Kinesis Data Streams: outside of every network, so that only an ingest that is inside needs a way to it. */
export const kinesisBroker: Broker = {
  name: "kinesis",
  zones: () => 1,
  endpoints: (deployment): Record<string, InterfaceVpcEndpointAwsService> =>
    ingestUsesStore(deployment) ? { Kinesis: InterfaceVpcEndpointAwsService.KINESIS_STREAMS } : {},
  eventStreams: (scope, id, deployment) => new KinesisStreams(scope, id, { deployment }),
};
