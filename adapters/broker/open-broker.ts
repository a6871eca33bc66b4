/** The broker and the publisher of a deployment. The client of the one that it does not have is never loaded. */
import type { KinesisClientConfig } from "@aws-sdk/client-kinesis";
import { kinesisBroker } from "../kinesis/broker.ts";
import { createKinesisClient } from "../kinesis/client.ts";
import { createKinesisPublisher } from "../kinesis/publisher.ts";
import type { Broker, Publisher } from "./broker.ts";

/** `iam`: TLS with a token of MSK's. Null: plaintext, and to this machine alone. */
export type KafkaAuth = "iam" | "tls" | "plaintext";

export interface KafkaSettings {
  readonly kind: "kafka";
  /** `host:port`, several with commas between. */
  readonly bootstrapServers: string;
  readonly auth: KafkaAuth | null;
  /** Of the cluster; for `iam`. */
  readonly region: string;
}

/** Which broker there is, and how it is reached. */
export type BrokerSettings = { readonly kind: "kinesis"; readonly client: KinesisClientConfig } | KafkaSettings;

/** @throws FreshetError `kafka_settings` */
export async function openBroker(settings: BrokerSettings): Promise<Broker> {
  if (settings.kind === "kinesis") return kinesisBroker(createKinesisClient(settings.client));
  const { kafkaBroker } = await import("../kafka/broker.ts");
  return kafkaBroker(settings);
}

/** @param streamNames plan name to the broker's */
export function openPublisher(settings: BrokerSettings, streamNames: Readonly<Record<string, string>>): Publisher {
  if (settings.kind === "kinesis") return createKinesisPublisher(createKinesisClient(settings.client), { streamNames });
  // Loaded while the host starts and not by its first request.
  const opened = import("../kafka/publisher.ts").then(({ createKafkaPublisher }) =>
    createKafkaPublisher(settings, { streamNames }),
  );
  opened.catch(() => {});
  return { publish: async (stream, records) => (await opened).publish(stream, records) };
}
