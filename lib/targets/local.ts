import { kafkaEndpointBroker } from "../brokers/kafka-endpoint.ts";
import { kinesisBroker } from "../brokers/kinesis.ts";
import { EmulatedOnlineStore } from "../constructs/emulated-online-store.ts";
import { EndpointOnlineStore } from "../constructs/endpoint-online-store.ts";
import { MetricsBridge } from "../constructs/metrics-bridge.ts";
import { StandInTraining } from "../constructs/stand-in-training.ts";
import { LOCAL_ACCOUNT, LOCAL_REGION } from "../local-guard.ts";
import type { Target } from "../target.ts";

export interface LocalTargetProps {
  /** What stands for AWS. @default ministack */
  readonly emulator?: "ministack" | "localstack";
  /** A Valkey that is already there. @default the emulator's ElastiCache */
  readonly valkey?: { readonly host: string; readonly port: string };
  /** A control plane for training jobs; with it, the training state machine is deployed. @default `freshet train` trains */
  readonly sagemakerEndpoint?: string;
  /** A Kafka that is already there: host:port, comma-separated. @default the emulator's Kinesis */
  readonly bootstrapServers?: string;
}

/** An emulator on this machine. Deployed to no other: see `local-guard.ts`. */
export function localTarget(props: LocalTargetProps = {}): Target {
  const { emulator, valkey, sagemakerEndpoint, bootstrapServers } = props;
  return {
    name: "local",
    environment: { account: LOCAL_ACCOUNT, region: LOCAL_REGION },
    broker: bootstrapServers === undefined ? kinesisBroker : kafkaEndpointBroker(bootstrapServers),
    onlineStore: (scope, id, deployment) =>
      valkey === undefined
        ? new EmulatedOnlineStore(scope, id, { deployment })
        : new EndpointOnlineStore(scope, id, { deployment, ...valkey }),
    // LocalStack's free edition takes no authorizer.
    asksAuthorizer: emulator !== "localstack",
    // It looks for the key of a usage plan in x-api-key, where ours are.
    countsByAuthorizer: false,
    // DuckDB reads the objects as they are.
    catalogueArchive: () => null,
    catalogueModels() {},
    training:
      sagemakerEndpoint === undefined
        ? null
        : (scope, id, deployment, data) =>
            new StandInTraining(scope, id, { deployment, data, endpoint: sagemakerEndpoint }),
    deliverMetrics: (scope, id, deployment, functions) => {
      new MetricsBridge(scope, id, { deployment, functions });
    },
  };
}
