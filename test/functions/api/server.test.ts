/** The plain server: how it begins and ends, and what it does while it ends. */
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createKey } from "../../../functions/api/keys/keys.ts";
import { listen, type RunningServer } from "../../../functions/api/server.ts";
import { scorable } from "./contract/contract-calls.ts";
import { testDependencies } from "./doubles.ts";

const ports = testDependencies();
let server: RunningServer;
let key: string;

beforeAll(async () => {
  ({ key } = await createKey(ports.keys, { tenant: "team-a", scopes: ["read", "write", "score"], nowMs: 0 }));
  server = await listen({ port: 0, dependencies: ports.dependencies });
});
afterAll(() => server?.close());

it("ends historical jobs with itself", async () => {
  const { dependencies } = testDependencies();
  let closed = 0;
  const historical: any = { close: async () => closed++ };
  const own = await listen({ port: 0, dependencies: { ...dependencies, historical } });
  await own.close();
  expect(closed).toBe(1);
});

it("ends in time whatever hangs over its end, and tells what that is", async () => {
  const { dependencies, lines } = testDependencies();
  const historical: any = { close: () => new Promise(() => {}) };
  const own = await listen({ port: 0, endMs: 20, dependencies: { ...dependencies, historical } });
  await own.close();
  expect(lines).toMatchObject([{ message: "not all of it ended", details: { left: ["historical jobs"] } }]);
});

it("answers a request that is under way before it ends", async () => {
  const slow = testDependencies();
  slow.dependencies.keys.get = ports.keys.get.bind(ports.keys);
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let entered = () => {};
  const reached = new Promise<void>((resolve) => {
    entered = resolve;
  });
  const read = slow.reader.read.bind(slow.reader);
  slow.reader.read = async (...given) => {
    entered();
    await held;
    return read(...given);
  };
  const own = await listen({ port: 0, dependencies: slow.dependencies });
  const reply = fetch(`${own.url}/v1/features/card/c1`, { headers: { "x-api-key": key } });
  await reached;
  const closed = own.close();
  await expect(fetch(`${own.url}/health`)).rejects.toThrow("fetch failed");
  release();
  expect((await reply).status).toBe(200);
  await closed;
});

describe("a server that ends under many busy connections", () => {
  it("answers every call that it takes, and resets none: callers are sent away when there is no door any more", async () => {
    const own = await listen({
      port: 0,
      lingerMs: 50,
      restMs: 30_000,
      drainMs: 60_000,
      dependencies: ports.dependencies,
    });
    const agent = new Agent({ keepAlive: true });
    const { port } = new URL(own.url);
    /** Status, or the error's code. */
    const score = () =>
      new Promise<number | string>((resolve) => {
        const body = JSON.stringify(scorable);
        const headers = {
          ...{ "x-api-key": key, "content-type": "application/json" },
          "content-length": Buffer.byteLength(body),
        };
        const options = { agent, headers, host: "127.0.0.1", port, method: "POST", path: "/v1/score/fraud" };
        const call = request(options, (answer) => {
          answer.resume();
          answer.once("end", () => resolve(answer.statusCode as number));
        });
        call.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code as string));
        call.end(body);
      });
    const outcomes: (number | string)[][] = Array.from({ length: 40 }, () => []);
    const callers = outcomes.map(async (seen) => {
      while (seen.at(-1) === undefined || seen.at(-1) === 200) seen.push(await score());
    });
    await expect.poll(() => outcomes.every(({ length }) => length > 1), { timeout: 30_000 }).toBe(true);
    await own.close();
    await Promise.all(callers);
    agent.destroy();
    expect(new Set(outcomes.flat())).toEqual(new Set([200, "ECONNREFUSED"]));
  });

  it("ends connections that rest when they had time for one more call", async () => {
    const own = await listen({ port: 0, lingerMs: 10, restMs: 10, drainMs: 60_000, dependencies: ports.dependencies });
    const socket = connect(Number(new URL(own.url).port), "127.0.0.1");
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    await new Promise<void>((resolve) => {
      socket.once("data", () => resolve());
      socket.write("GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
    });
    await own.close();
    await closed;
  });
});

it("refuses a port that is taken, and says so", async () => {
  const port = Number(new URL(server.url).port);
  await expect(listen({ port, dependencies: ports.dependencies })).rejects.toThrow(`port ${port} is in use`);
});

it("stops reading a body without a length once it is too large", async () => {
  const { port } = new URL(server.url);
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect(Number(port), "127.0.0.1");
    let text = "";
    socket.on("data", (data) => {
      text += data;
    });
    socket.on("close", () => resolve(text));
    socket.on("error", (error) => (text === "" ? reject(error) : resolve(text)));
    socket.write(`POST /v1/score/fraud HTTP/1.1\r\nhost: x\r\nx-api-key: ${key}\r\ntransfer-encoding: chunked\r\n\r\n`);
    const chunk = `10000\r\n${"x".repeat(65_536)}\r\n`;
    const pump = () => {
      while (!socket.destroyed && text === "") if (!socket.write(chunk)) return void socket.once("drain", pump);
    };
    pump();
  });
  expect(answer).toMatch(/^HTTP\/1\.1 413 /);
  expect(answer).toContain("body_too_large");
});
