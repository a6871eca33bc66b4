/** Which broker the deployment has, as its functions are told. */
import type { KinesisClientConfig } from "@aws-sdk/client-kinesis";
import type { BrokerSettings, KafkaAuth } from "../../adapters/broker/open-broker.ts";
import { FreshetError } from "../../core/errors.ts";
import { ENVIRONMENT, requireEnvironment } from "./environment.ts";

const AUTHS: readonly string[] = ["iam", "tls", "plaintext"] satisfies KafkaAuth[];

/**
 * @param client of Kinesis, where it is that
 * @param environment of a function of the deployment. @default this process is one
 * @throws FreshetError `environment_missing`, `broker_unknown`
 */
export function brokerFromEnvironment(
  client: KinesisClientConfig,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): BrokerSettings {
  const value = (name: "broker" | "kafkaAuth" | "bootstrapServers") => environment[ENVIRONMENT[name]] || undefined;
  const kind = value("broker") ?? "kinesis";
  if (kind === "kinesis") return { kind, client };
  const auth = value("kafkaAuth") ?? null;
  if (kind !== "kafka") throw unknown("broker", kind, "kinesis or kafka");
  if (auth !== null && !AUTHS.includes(auth)) throw unknown("authentication of Kafka", auth, AUTHS.join(", "));
  return {
    kind,
    bootstrapServers: value("bootstrapServers") ?? requireEnvironment("bootstrapServers"),
    auth: auth as KafkaAuth | null,
    region: environment["AWS_REGION"] ?? "us-east-1",
  };
}

const unknown = (what: string, given: string, known: string): FreshetError =>
  new FreshetError("broker_unknown", `${given} is no ${what}: it is ${known}`, {
    repair: "deploy with the CDK app, which sets it, or set it by hand",
  });
