import { afterEach, expect, test, vi } from "vitest";
import type { KafkaSettings } from "../../../adapters/broker/open-broker.ts";
import { assertReachable, connectionOptions } from "../../../adapters/kafka/connection.ts";

const settings = (bootstrapServers: string, auth: KafkaSettings["auth"] = null): KafkaSettings => ({
  ...{ kind: "kafka", bootstrapServers, auth, region: "eu-west-1" },
});
afterEach(() => {
  vi.unstubAllEnvs();
});

test("servers are hosts with ports, on this machine without anything else", () => {
  const options = connectionOptions(settings("127.0.0.1:9092, localhost:9093,[::1]:9094"));
  expect(options.bootstrapBrokers).toEqual([
    { host: "127.0.0.1", port: 9092 },
    { host: "localhost", port: 9093 },
    { host: "::1", port: 9094 },
  ]);
  expect(options).not.toHaveProperty("tls");
  expect(options).not.toHaveProperty("sasl");
});

test.each(["kafka", "kafka:", ":9092", "kafka:99999", "", "a:1,,b:2", "http://kafka:9092/x"])(
  "%j is refused",
  (given) => {
    expect(() => connectionOptions(settings(given, "tls"))).toThrow("a bootstrap server is host:port, given");
  },
);

test("plaintext leaves this machine only when it is asked to", () => {
  const rule = "Kafka at kafka.internal would be talked to in plaintext, and is not this machine";
  expect(() => connectionOptions(settings("127.0.0.1:9092,kafka.internal:9092"))).toThrow(rule);
  expect(connectionOptions(settings("kafka.internal:9092", "plaintext"))).not.toHaveProperty("tls");
  // As a tunnel's other end would name itself.
  const brokers = new Map([[1, { host: "kafka.internal", port: 9092, rack: null }]]);
  const metadata = { id: "c", brokers, controllerId: 1, topics: new Map(), lastUpdate: 0 };
  expect(() => assertReachable(settings("127.0.0.1:9092"), metadata)).toThrow(rule);
  expect(() => assertReachable(settings("127.0.0.1:9092", "plaintext"), metadata)).not.toThrow();
});

test("iam is TLS with a token that MSK takes, made anew for each connection from the credentials of the moment", async () => {
  vi.stubEnv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
  vi.stubEnv("AWS_SECRET_ACCESS_KEY", "example");
  vi.stubEnv("AWS_SESSION_TOKEN", "");
  const options = connectionOptions(settings("b-1.example.kafka.eu-west-1.amazonaws.com:9098", "iam"));
  expect(options).toMatchObject({ tls: {}, tlsServerName: true, sasl: { mechanism: "OAUTHBEARER" } });
  const token = await (options.sasl!.token as () => Promise<string>)();
  const url = new URL(Buffer.from(token, "base64url").toString());
  expect(url.host).toBe("kafka.eu-west-1.amazonaws.com");
  expect(url.searchParams.get("Action")).toBe("kafka-cluster:Connect");
  expect(url.searchParams.get("X-Amz-Expires")).toBe("900");
  expect(url.searchParams.get("X-Amz-Credential")).toMatch(
    /^AKIDEXAMPLE\/\d{8}\/eu-west-1\/kafka-cluster\/aws4_request$/,
  );
  expect(connectionOptions(settings("kafka.internal:9093", "tls"))).toMatchObject({ tls: {} });
});
