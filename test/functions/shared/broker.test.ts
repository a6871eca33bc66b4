import { expect, test } from "vitest";
import { brokerFromEnvironment } from "../../../functions/shared/broker.ts";

const KAFKA = { FRESHET_BROKER: "kafka", FRESHET_BOOTSTRAP_SERVERS: "b:9098", AWS_REGION: "eu-west-1" };

test("is Kinesis where nothing else is said", () => {
  const client = { maxAttempts: 1 };
  expect(brokerFromEnvironment(client, {})).toEqual({ kind: "kinesis", client });
  expect(brokerFromEnvironment(client, { FRESHET_BROKER: "" })).toEqual({ kind: "kinesis", client });
});

test("is Kafka at its servers, with what it is told of them", () => {
  const kafka = { kind: "kafka", bootstrapServers: "b:9098", region: "eu-west-1" };
  expect(brokerFromEnvironment({}, KAFKA)).toEqual({ ...kafka, auth: null });
  expect(brokerFromEnvironment({}, { ...KAFKA, FRESHET_KAFKA_AUTH: "iam" })).toEqual({ ...kafka, auth: "iam" });
});

test.each([
  [{ FRESHET_BROKER: "msk" }, "msk is no broker: it is kinesis or kafka"],
  [{ ...KAFKA, FRESHET_KAFKA_AUTH: "scram" }, "scram is no authentication of Kafka: it is iam, tls, plaintext"],
  [{ FRESHET_BROKER: "kafka" }, "environment variable FRESHET_BOOTSTRAP_SERVERS is not set"],
])("nothing else is: %#", (environment, why) => {
  expect(() => brokerFromEnvironment({}, environment)).toThrow(why);
});
