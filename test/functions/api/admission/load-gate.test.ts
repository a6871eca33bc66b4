/** A host that has more to do than it can: what it turns away, and how it ends. The server is real, the work is made. */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LoadGate } from "../../../../functions/api/admission/load-gate.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { callerOf, scorable } from "../contract/contract-calls.ts";
import { plan, testDependencies } from "../doubles.ts";

describe("the gate", () => {
  const enter = (gate: LoadGate, tenant: string, routeClass = "score") =>
    gate.enter() && gate.enterAs(tenant, routeClass);
  /** Each of a tenant of its own, as far as shares are concerned. */
  const enterAll = (gate: LoadGate, calls: number, tenant?: string) =>
    Array.from({ length: calls }, (_, i) => enter(gate, tenant ?? `team-${i % 8}`));

  it("turns nobody away while the loop rests, however slow its calls are", () => {
    const gate = new LoadGate();
    expect(enterAll(gate, 1_000)).not.toContain(false);
    gate.leave();
    gate.look(0.9, 1_000);
    expect([gate.waitMs, enter(gate, "team-0")]).toEqual([0, true]);
  });

  it("of a loop that never rests takes as many as it completes within the limit, and all again when it rests", () => {
    const gate = new LoadGate();
    enterAll(gate, 100);
    for (let i = 0; i < 50; i++) gate.leave(`team-${i % 8}`, "score");
    // 50 in 200 ms: those under way take 200 ms, and 300 ms are the limit.
    gate.look(1, 200);
    expect(enterAll(gate, 100).filter((isIn) => isIn)).toHaveLength(25);
    expect([gate.calls, gate.shed, gate.waitMs]).toEqual([75, 75, 304]);
    gate.look(0.5, 200);
    expect(enterAll(gate, 100)).not.toContain(false);
  });

  it("always takes a few, so that it learns when it is fast again", () => {
    const gate = new LoadGate();
    enterAll(gate, 1);
    gate.leave();
    gate.look(1, 10_000);
    expect(enterAll(gate, 100).filter((isIn) => isIn)).toHaveLength(32);
  });

  it("does not count slow uploads among what it has to do; a body that waits for the thread itself is one that it has to do", () => {
    const gate = new LoadGate();
    enterAll(gate, 400);
    for (let i = 0; i < 50; i++) gate.leave();
    const nowMs = performance.now();
    const uploads = Array.from({ length: 340 }, () => gate.uploading());
    gate.look(1, 200, nowMs + 500);
    expect([gate.calls, gate.uploads, enter(gate, "team-0")]).toEqual([350, 0, false]);
    gate.look(1, 200, nowMs + 2_000);
    expect([gate.calls, gate.uploads]).toEqual([10, 340]);
    expect(enterAll(gate, 30)).not.toContain(false);
    for (const upload of uploads) gate.uploaded(upload);
    expect([gate.calls, gate.uploads, enter(gate, "team-0")]).toEqual([380, 0, false]);
    // They hold memory all the same.
    const open = new LoadGate();
    enterAll(open, 4_096);
    for (let i = 0; i < 4_096; i++) open.uploading();
    open.look(0, 200, performance.now() + 2_000);
    expect([open.calls, open.uploads, open.enter()]).toEqual([0, 4_096, false]);
  });

  it("takes no more than it has memory for, whatever the loop does", () => {
    expect(enterAll(new LoadGate(), 5_000).filter((isIn) => isIn)).toHaveLength(4_096);
  });

  it("gives a tenant half of the places, and one class of its calls a quarter: others find theirs", () => {
    const gate = new LoadGate();
    const count = (entered: boolean[]) => entered.filter((isIn) => isIn).length;
    const flood = (routeClass: string) => Array.from({ length: 3_000 }, () => enter(gate, "team-a", routeClass));
    expect(count(flood("write"))).toBe(1_024);
    expect(count(flood("score"))).toBe(1_024);
    expect(count(flood("read"))).toBe(0);
    expect([gate.calls, gate.shed]).toEqual([2_048, 6_952]);
    expect(count(enterAll(gate, 100, "team-b"))).toBe(100);
    gate.leave("team-a", "score");
    expect([enter(gate, "team-a", "write"), enter(gate, "team-a", "score"), enter(gate, "team-a", "score")]).toEqual([
      ...[false, true, false],
    ]);
  });

  it("of a loop that never rests turns away who has more than a fair share, and forgets who has nothing under way", () => {
    const gate = new LoadGate();
    enterAll(gate, 400, "team-a");
    enterAll(gate, 3, "team-b");
    for (let i = 0; i < 50; i++) gate.leave("team-a", "score");
    gate.look(1, 200);
    const entered = () => [enter(gate, "team-a"), enter(gate, "team-b"), enter(gate, "team-c")];
    expect(entered()).toEqual([false, true, true]);
    for (let i = 0; i < 4; i++) gate.leave("team-b", "score");
    gate.leave("team-c", "score");
    // Alone, it has all that is under way.
    expect([enter(gate, "team-a"), gate.calls, gate.shed]).toEqual([false, 350, 2]);
  });
});

describe("a server", () => {
  const ports = testDependencies();
  let server: RunningServer;
  let key: string;
  const call = callerOf(
    plan,
    () => server,
    () => key,
  );
  const answer = ports.reader.read.bind(ports.reader);

  beforeEach(async () => {
    key = (await createKey(ports.keys, { tenant: "team-a", scopes: ["score"], nowMs: 0 })).key;
    server = await listen({ port: 0, lingerMs: 300, restMs: 50, dependencies: ports.dependencies });
  });
  afterEach(async () => {
    ports.reader.read = answer;
    await server.close();
  });

  const sheds = "sheds what it cannot do in time with 503 and Retry-After, answers /health all the while, and recovers";
  it(sheds, { tags: ["slow"], timeout: 200_000 }, async () => {
    ports.reader.read = async (requests, asOfMs) => {
      // Others' reads are under way, so that many calls wait at once.
      await sleep(20);
      const untilMs = performance.now() + 10;
      while (performance.now() < untilMs);
      return answer(requests, asOfMs);
    };
    let isOver = false;
    const replies: { status: number; code: string; retry: string | null }[] = [];
    const lanes = Array.from({ length: 80 }, async () => {
      while (!isOver) {
        const { status, body, headers } = await call("/v1/score/fraud", { body: scorable });
        replies.push({ status, code: body.code, retry: headers.get("retry-after") });
        if (status === 503) await sleep(50);
      }
    });
    const shed = () => replies.filter(({ status }) => status === 503);
    try {
      // Seconds by itself; far more beside others who take the machine's time.
      await expect.poll(() => shed().length, { timeout: 150_000 }).toBeGreaterThan(20);
    } finally {
      // Else they would ask a server that is gone.
      isOver = shed().length <= 20;
    }
    expect((await call("/health")).status).toBe(200);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(Number(/freshet_calls_shed (\d+)/.exec(metrics)?.[1])).toBeGreaterThan(20);
    isOver = true;
    await Promise.all(lanes);
    expect(new Set(shed().map(({ code, retry }) => `${code} ${retry}`))).toEqual(new Set(["overloaded 1"]));
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200, 503]));
    ports.reader.read = answer;
    await expect
      .poll(async () => (await call("/v1/score/fraud", { body: scorable })).status, { timeout: 30_000 })
      .toBe(200);
    // A log line for each would be more to do still.
    expect(ports.lines.filter(({ details }) => details["code"] === "overloaded")).toEqual([]);
  });

  it("answers every one of many large calls at once, in its turn or as too many, and small ones between them", async () => {
    const rows = Array.from({ length: 100 }, () => scorable);
    const large = Array.from({ length: 40 }, () => call("/v1/score/fraud/batch", { body: { rows } }));
    const small = Array.from({ length: 20 }, () => call("/v1/score/fraud", { body: scorable }));
    expect(new Set((await Promise.all(small)).map(({ status }) => status))).toEqual(new Set([200]));
    const outcomes = (await Promise.all(large)).map(({ status, body, headers }) =>
      status === 200 ? body.rows.length : `${status} ${body.code} ${headers.get("retry-after")}`,
    );
    expect(outcomes.filter((one) => one !== 100 && one !== "503 overloaded 1")).toEqual([]);
    expect(outcomes.filter((one) => one === 100).length).toBeGreaterThanOrEqual(8);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(/^freshet_large_calls_waiting (\d+)/m.exec(metrics)?.[1]).toBe("0");
    // Each has given its turn back.
    expect((await call("/v1/score/fraud/batch", { body: { rows } })).status).toBe(200);
  });

  it("that is told to end says so, serves as ever for a while, then answers what is under way, asks callers to go elsewhere, and is gone", async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let began = () => {};
    const isUnderWay = new Promise<void>((resolve) => {
      began = resolve;
    });
    ports.reader.read = async (requests, asOfMs) => {
      began();
      await held;
      return answer(requests, asOfMs);
    };
    const underWay = call("/v1/score/fraud", { body: scorable });
    await isUnderWay;
    const ended = server.close();
    const ready = await call("/ready");
    expect([ready.status, ready.body.code, ready.body.detail]).toEqual([
      503,
      "not_ready",
      "draining: this host has been told to end and takes nothing new",
    ]);
    // Whoever was told to reconnect while it still takes connections would come back to it.
    expect(ready.headers.get("connection")).toBe("keep-alive");
    expect((await call("/health")).status).toBe(200);
    const knock = () =>
      new Promise<string>((resolve) => {
        const socket = connect(Number(new URL(server.url).port), "127.0.0.1", () => resolve("taken"));
        socket.on("error", ({ code }: NodeJS.ErrnoException) => resolve(code as string));
        socket.on("connect", () => socket.destroy());
      });
    await expect.poll(knock, { timeout: 30_000 }).toBe("ECONNREFUSED");
    release();
    const reply = await underWay;
    expect([reply.status, reply.headers.get("connection")]).toEqual([200, "close"]);
    await ended;
  });

  it("is not kept from its work by clients that are slow to send", async () => {
    const { port } = new URL(server.url);
    const head = `POST /v1/score/fraud HTTP/1.1\r\nhost: x\r\nx-api-key: ${key}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{`;
    const slow = Array.from({ length: 200 }, () => {
      const socket = connect(Number(port), "127.0.0.1");
      socket.on("error", () => {});
      socket.write(head);
      return socket;
    });
    const gauge = async (name: string) => {
      const metrics = await (await fetch(`${server.url}/metrics`)).text();
      return Number(new RegExp(`^freshet_${name} (\\d+)`, "m").exec(metrics)?.[1]);
    };
    await expect.poll(() => gauge("calls_uploading"), { timeout: 30_000 }).toBe(200);
    expect(await gauge("calls_under_way")).toBe(0);
    for (const socket of slow) socket.destroy();
    await expect.poll(() => gauge("calls_uploading"), { timeout: 30_000 }).toBe(0);
  });

  it("waits for a client that never ends its request no longer than its drain may take", async () => {
    await server.close();
    server = await listen({ port: 0, drainMs: 100, dependencies: ports.dependencies });
    const { port } = new URL(server.url);
    const slow = connect(Number(port), "127.0.0.1");
    const closed = new Promise<void>((resolve) => slow.once("close", () => resolve()));
    slow.on("error", () => {});
    const head = `POST /v1/score/fraud HTTP/1.1\r\nhost: x\r\nx-api-key: ${key}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{`;
    await new Promise<void>((resolve) => slow.write(head, () => resolve()));
    await sleep(50);
    await server.close();
    await closed;
  });
});
