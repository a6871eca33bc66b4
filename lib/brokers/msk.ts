import { InterfaceVpcEndpointAwsService } from "aws-cdk-lib/aws-ec2";
import type { Broker } from "../broker.ts";
import { MskTopics } from "../constructs/msk-topics.ts";
import { BROKERS } from "../constructs/provisioned-cluster.ts";
import type { Deployment } from "../deployment.ts";
import type { Stage } from "../stage.ts";

/**
 * Amazon MSK, in the online store's network. The heartbeat is inside then, and invokes control through an endpoint.
 * @param cluster which of the two kinds. @default the stage's
 */
export function mskBroker(cluster?: Stage["kafka"]["cluster"]): Broker {
  const kindOf = ({ stage }: Deployment) => cluster ?? stage.kafka.cluster;
  return {
    name: "kafka",
    // A broker in each; a serverless cluster wants two.
    zones: (deployment) => (kindOf(deployment) === "provisioned" ? BROKERS : 2),
    endpoints: () => ({ Lambda: InterfaceVpcEndpointAwsService.LAMBDA }),
    eventStreams: (scope, id, deployment, { placement }) =>
      new MskTopics(scope, id, { deployment, placement, kind: kindOf(deployment) }),
  };
}
