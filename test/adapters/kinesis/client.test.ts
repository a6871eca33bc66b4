import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { ListStreamsCommand } from "@aws-sdk/client-kinesis";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { expect, it } from "vitest";
import { createKinesisClient } from "../../../adapters/kinesis/client.ts";

it("a client with an end to waiting speaks HTTP/1.1 as any other does, and gives up who hangs", async () => {
  const versions: string[] = [];
  const silent = createServer(({ httpVersion }) => void versions.push(httpVersion)).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const client = createKinesisClient({
    endpoint: `http://127.0.0.1:${(silent.address() as AddressInfo).port}`,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
    maxAttempts: 1,
    requestHandler: { requestTimeout: 500, throwOnRequestTimeout: true },
  });
  try {
    expect(client.config.requestHandler).toBeInstanceOf(NodeHttpHandler);
    await expect(client.send(new ListStreamsCommand({}))).rejects.toThrow("has exceeded the configured 500 ms");
    expect(versions).toEqual(["1.1"]);
  } finally {
    client.destroy();
    silent.closeAllConnections();
    silent.close();
  }
});
