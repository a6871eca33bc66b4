import { CreateStreamCommand, type KinesisClient, waitUntilStreamExists } from "@aws-sdk/client-kinesis";
import { afterAll, beforeAll } from "vitest";
import { kinesisBroker } from "../../../adapters/kinesis/broker.ts";
import { createKinesisClient } from "../../../adapters/kinesis/client.ts";
import { createKinesisPublisher } from "../../../adapters/kinesis/publisher.ts";
import { anyFreePort } from "../../../local/ports.ts";
import { startEmulator, type TestEmulator } from "../../harness/emulator.ts";
import { type BrokerWorld, describeBroker } from "../broker/broker-contract.ts";

let emulator: TestEmulator;
let world: BrokerWorld;
let client: KinesisClient;
const clientOf = (endpoint: string): KinesisClient => {
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  return createKinesisClient({ endpoint, region: "us-east-1", credentials, maxAttempts: 1 });
};

beforeAll(async () => {
  emulator = await startEmulator();
  client = clientOf(emulator.url);
  const nowhere = clientOf(`http://127.0.0.1:${await anyFreePort()}`);
  let made = 0;
  world = {
    async create(shards) {
      const name = `broker-${++made}`;
      await client.send(new CreateStreamCommand({ StreamName: name, ShardCount: shards }));
      await waitUntilStreamExists({ client, maxWaitTime: 60, minDelay: 0.05, maxDelay: 0.1 }, { StreamName: name });
      return name;
    },
    broker: kinesisBroker(clientOf(emulator.url)),
    publisher: (streamNames, budgetMs = 30_000) => createKinesisPublisher(client, { streamNames, budgetMs }),
    unreachable: (streamNames) => createKinesisPublisher(nowhere, { streamNames, budgetMs: 0 }),
  };
});
afterAll(async () => {
  client?.destroy();
  await emulator?.stop();
});

describeBroker(() => world);
