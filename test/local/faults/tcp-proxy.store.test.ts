import { Valkey } from "iovalkey";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTcpFaultProxy, type TcpFaultProxy } from "../../../local/faults/tcp-proxy.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

let valkey: TestValkey;
let direct: Valkey;
let proxy: TcpFaultProxy;
let client: Valkey;

beforeAll(async () => {
  valkey = await startValkey();
  direct = new Valkey(valkey.port, valkey.host);
});
beforeEach(async () => {
  await direct.flushall();
  proxy = await startTcpFaultProxy(valkey);
  client = new Valkey(proxy.port, proxy.host, { maxRetriesPerRequest: 0, retryStrategy: () => null });
  client.on("error", () => {});
  await client.ping();
});
afterEach(async () => {
  client.disconnect();
  await proxy.stop();
});
afterAll(async () => {
  direct?.disconnect();
  await valkey?.stop();
});

/** Bytes of `INCR n` on the wire. */
const INCR = Buffer.byteLength("*2\r\n$4\r\nincr\r\n$1\r\nn\r\n");

describe("the proxy before Valkey", () => {
  test("lets everything through when nothing is asked of it", async () => {
    expect(await client.incr("n")).toBe(1);
    expect(await direct.get("n")).toBe("1");
  });

  test("cuts a pipeline in its middle: what was before is done, the rest is not", async () => {
    proxy.cutAfterRequestBytes(2 * INCR + 3);
    const pipeline = client.pipeline();
    for (let i = 0; i < 5; i++) pipeline.incr("n");
    const results = await pipeline.exec();
    expect(results!.every(([error]) => error instanceof Error)).toBe(true);
    await expect.poll(() => direct.get("n")).toBe("2");
  });

  test("cuts after an answer: more was done than was heard", async () => {
    proxy.cutAfterAnswerBytes(":1\r\n".length);
    const pipeline = client.pipeline();
    for (let i = 0; i < 5; i++) pipeline.incr("n");
    const results = await pipeline.exec();
    expect(results!.map(([error, value]) => (error === null ? value : "unheard"))).toEqual([
      1,
      ...Array(4).fill("unheard"),
    ]);
    await expect.poll(() => direct.get("n")).toBe("5");
  });

  test("is mute: done, and heard only later", async () => {
    proxy.mute(true);
    let heard = false;
    const answer = client.incr("n").then((value) => {
      heard = true;
      return value;
    });
    await expect.poll(() => direct.get("n")).toBe("1");
    expect(heard).toBe(false);
    proxy.mute(false);
    expect(await answer).toBe(1);
  });

  test("refuses, and then serves again", async () => {
    proxy.refuse(true);
    const refused = new Valkey(proxy.port, proxy.host, {
      maxRetriesPerRequest: 0,
      retryStrategy: () => null,
      lazyConnect: true,
    });
    refused.on("error", () => {});
    await expect(refused.connect()).rejects.toThrow("Connection is closed.");
    await expect(client.incr("n")).rejects.toThrow("Connection is closed.");
    proxy.refuse(false);
    const served = new Valkey(proxy.port, proxy.host);
    expect(await served.incr("n")).toBe(1);
    served.disconnect();
  });
});
