/** How every client of Kafka connects: who it is, how long it waits, and that nothing leaves this machine in plaintext unasked. */
import type { BaseOptions, ClusterMetadata, SASLOptions } from "@platformatic/kafka";
import { FreshetError } from "../../core/errors.ts";
import type { KafkaSettings } from "../broker/open-broker.ts";

const LOOPBACK: readonly string[] = ["127.0.0.1", "localhost", "::1"];
/** As impatient as side outputs are (`durable-call.ts`); longer than the wait of a fetch. */
const CONNECT_TIMEOUT_MS = 2_000;
const REQUEST_TIMEOUT_MS = 4_000;

/**
 * @param retries of each call, half a second apart; publishing has its own loop
 * @throws FreshetError `kafka_settings`
 */
export function connectionOptions(settings: KafkaSettings, retries = 3): BaseOptions {
  const bootstrapBrokers = settings.bootstrapServers.split(",").map(parseServer);
  if (settings.auth === null) for (const { host } of bootstrapBrokers) assertHere(host);
  const secure = settings.auth === "iam" || settings.auth === "tls";
  return {
    clientId: "freshet",
    bootstrapBrokers,
    connectTimeout: CONNECT_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    timeout: REQUEST_TIMEOUT_MS,
    retries,
    retryDelay: 500,
    autocreateTopics: false,
    // The name in a certificate is the broker's.
    ...(secure ? { tls: {}, tlsServerName: true } : {}),
    ...(settings.auth === "iam" ? { sasl: mskIam(settings.region) } : {}),
  };
}

/** A broker on this machine may name others that are not. @throws FreshetError `kafka_settings` */
export function assertReachable({ auth }: KafkaSettings, { brokers }: ClusterMetadata): void {
  if (auth === null) for (const { host } of brokers.values()) assertHere(host);
}

/** A token is a signed URL, made without a call, and good for a quarter of an hour; a broker asks for a new one in time. */
const mskIam = (region: string): SASLOptions => ({
  mechanism: "OAUTHBEARER",
  async token() {
    const { generateAuthToken } = await import("aws-msk-iam-sasl-signer-js");
    return (await generateAuthToken({ region })).token;
  },
});

function parseServer(server: string): { host: string; port: number } {
  const [, host, port] = /^\[?([^\s[\]]+?)\]?:(\d{1,5})$/.exec(server.trim()) ?? [];
  if (host !== undefined && Number(port) <= 65_535) return { host, port: Number(port) };
  throw new FreshetError("kafka_settings", `a bootstrap server is host:port, given "${server.trim()}"`, {
    field: "FRESHET_BOOTSTRAP_SERVERS",
    repair: "name one or more with commas between: 127.0.0.1:9092",
  });
}

function assertHere(host: string): void {
  if (LOOPBACK.includes(host)) return;
  throw new FreshetError(
    "kafka_settings",
    `Kafka at ${host} would be talked to in plaintext, and is not this machine`,
    {
      field: "FRESHET_KAFKA_AUTH",
      repair: "set it to iam (MSK) or tls; or to plaintext, where the network is trusted",
    },
  );
}
