/** The same store on a real cluster of two primaries, as on AWS: buckets lie on different nodes, calls are grouped by node. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "iovalkey";
import { afterAll, beforeAll, expect, it } from "vitest";
import { FallbackReader } from "../../../adapters/online-store/fallback-reader.ts";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { slotOf, ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { birthsOf, ControlHashes } from "../../../adapters/valkey/control.ts";
import { ownersOf, type WalkPosition, type WalkStep, walkHashes } from "../../../adapters/valkey/hash-walk.ts";
import { bucketOf, controlKey } from "../../../adapters/valkey/layout.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { sweep } from "../../../adapters/valkey/sweeper.ts";
import { createTokenBuckets } from "../../../adapters/valkey/token-buckets.ts";
import { anyFreePort } from "../../../local/ports.ts";
import { valkeyProcess } from "../../../local/valkey.ts";
import { plan } from "../../support/fixture-plan.ts";

const nodes: { port: number; bus: number; dir: string; child: ChildProcess; admin: Redis }[] = [];
let connection: ValkeyConnection;

async function startNode(): Promise<void> {
  const [port, bus] = [await anyFreePort(), await anyFreePort()];
  const dir = mkdtempSync(join(tmpdir(), "freshet-cluster-"));
  const { command } = valkeyProcess({ port, dir, appendonly: false });
  const options = [
    "--port",
    `${port}`,
    "--cluster-port",
    `${bus}`,
    "--bind",
    "127.0.0.1",
    "--cluster-enabled",
    "yes",
    "--save",
    "",
  ];
  const child = spawn(command, options, { cwd: dir, stdio: "ignore" });
  const admin = new Redis({ host: "127.0.0.1", port, retryStrategy: () => 50 });
  admin.on("error", () => {});
  nodes.push({ port, bus, dir, child, admin });
  while ((await admin.ping().catch(() => "")) !== "PONG") await sleep(20);
}

beforeAll(async () => {
  await startNode();
  await startNode();
  const [a, b] = nodes;
  await a.admin.call("CLUSTER", "ADDSLOTSRANGE", "0", "8000");
  await b.admin.call("CLUSTER", "ADDSLOTSRANGE", "8001", "16383");
  await a.admin.call("CLUSTER", "MEET", "127.0.0.1", `${b.port}`, `${b.bus}`);
  for (const { admin } of nodes) {
    while (!String(await admin.call("CLUSTER", "INFO")).includes("cluster_state:ok")) await sleep(50);
  }
  connection = new ValkeyConnection({ host: "127.0.0.1", port: a.port, cluster: true });
});
afterAll(async () => {
  await connection?.close();
  for (const { admin, child, dir } of nodes) {
    admin.disconnect();
    child.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  }
});

it("applies once, reads and sweeps across the primaries of a cluster", async () => {
  const now = Date.now();
  const sealMs = now - 20 * 60_000;
  const controls = new ControlHashes(connection, plan);
  await controls.create(1, new Map(plan.groups.map((g) => [g.name, { sealMs, births: birthsOf(g, 0) }])));
  await controls.setState(1, ["new"], "ok");
  expect(await controls.summary()).toEqual({ epoch: 1, present: 1024, ok: 1024, state: "ok" });

  const packer = new RecordPacker(plan, "payments");
  const event = (i: number) => ({ id: `e${i}`, at: now - 600_000, card: `c${i % 50}`, shop: `s${i % 7}`, amount: 1.5 });
  const prepared = Array.from({ length: 2000 }, (_, i) => packer.prepare("default", `e${i}`, now - 600_000, event(i)));
  const applier = new StoreApplier(connection, plan, 1);
  const first = await applier.apply(prepared);
  expect(new Set(first.fates.flat().map(({ fate }) => fate))).toEqual(new Set(["applied"]));
  const second = await applier.apply(prepared);
  expect(new Set(second.fates.flat().map(({ fate }) => fate))).toEqual(new Set(["duplicate"]));
  const keys = await Promise.all(nodes.map(({ admin }) => admin.dbsize()));
  expect(Math.min(...keys)).toBeGreaterThan(400);

  const reader = createReader(plan, { host: "127.0.0.1", port: nodes[0].port, cluster: true, timeoutMs: 5_000 });
  const requests = Array.from({ length: 50 }, (_, i) => ({
    tenant: "default",
    entity: "card",
    id: `c${i}`,
    features: ["everything:n_1h", "everything:total_1h"],
  }));
  const read = async () => (await reader.read(requests, now)).map(({ values }) => values.map(({ value }) => value));
  expect(await read()).toEqual(requests.map(() => [40, 60]));
  for (const group of plan.groups) {
    await controls.putGroup(group, { sealMs: Math.floor(now / 60_000) * 60_000 - 60_000, births: birthsOf(group, 0) });
  }
  const report = await sweep(connection, applier, plan, Date.now() + 30_000);
  expect(report).toEqual({ scanned: 57, touched: 57, complete: true });
  expect(await read()).toEqual(requests.map(() => [40, 60]));
  await reader.close();

  // A walk goes from primary to primary, and on where it was.
  const walk = async (from: WalkPosition | null) => {
    const steps: WalkStep[] = [];
    for await (const step of walkHashes(connection, plan, () => 0, from)) steps.push(step);
    return steps;
  };
  const names = (steps: readonly WalkStep[]) =>
    steps.flatMap(({ hashes }) => hashes.map(({ entity, id }) => `${entity} ${id}`));
  const all = await walk(null);
  expect(new Set(names(all)).size).toBe(57);
  const half = all.findIndex(({ position }) => position?.walked.length === 1);
  const rest = names(await walk(all[half].position));
  expect(rest.length).toBeLessThan(57);
  expect(new Set([...names(all.slice(0, half + 1)), ...rest]).size).toBe(57);
});

it("sends what begins in one turn with one write to each primary", async () => {
  const callers = Array.from({ length: 40 }, (_, i) => ({ key: `{${i}}turn`, name: "SET", args: [`{${i}}turn`, i] }));
  await Promise.all(callers.map((command) => connection.run([command])));
  const reads = () =>
    Promise.all(
      nodes.map(async ({ admin }) => Number(/total_reads_processed:(\d+)/.exec(await admin.info("stats"))?.[1])),
    );
  const before = await reads();
  await Promise.all(callers.map((command) => connection.run([command])));
  const after = await reads();
  // One for the trips and one for the question; the client's own look at the cluster may come in between.
  for (const [i, count] of after.entries()) expect(count - before[i]).toBeLessThanOrEqual(4);
  for (const [i, count] of after.entries()) expect(count - before[i]).toBeGreaterThanOrEqual(2);
});

it("keeps each tenant's buckets on one primary, whoever asks", async () => {
  const limit = { perSecond: 0.001, burst: 3, perDay: null };
  const other = new ValkeyConnection({ host: "127.0.0.1", port: nodes[1].port, cluster: true });
  const hosts = [createTokenBuckets(connection), createTokenBuckets(other)];
  for (let tenant = 0; tenant < 10; tenant++) {
    const ask = (host: number) =>
      hosts[host].charge({ tenant: `team-${tenant}`, routeClass: "score", limit, spent: 0, cost: 1 });
    const admitted = [];
    for (let i = 0; i < 4; i++) admitted.push((await ask(i % 2)).admitted);
    expect(admitted).toEqual([true, true, true, false]);
  }
  const keys = await Promise.all(nodes.map(async ({ admin }) => (await admin.keys("{l:*")).length));
  expect(keys[0] + keys[1]).toBe(10);
  expect(Math.min(...keys)).toBeGreaterThan(0);
  await other.close();
});

it("a primary that stands still costs its own entities their answers, and others nothing", async () => {
  const reader = createReader(plan, { host: "127.0.0.1", port: nodes[0].port, cluster: true });
  const events = { answered() {}, lost() {}, breaker() {} };
  const guarded = new FallbackReader(reader, null, { totalMs: 500, storeMs: 500 }, events);
  const idOn = (isFirst: boolean) =>
    Array.from({ length: 100 }, (_, i) => `still${i}`).find(
      (id) => slotOf(controlKey(bucketOf("default", "card", id))) <= 8_000 === isFirst,
    )!;
  const requests = [idOn(true), idOn(false)].map((id) => ({
    ...{ tenant: "default", entity: "card", id, features: ["everything:n_24h"] },
  }));
  const lost = () =>
    guarded.read(requests, Date.now(), { partial: true }).then(
      (answers) => answers.map((answer) => answer.lost === true),
      () => "nothing",
    );
  await expect.poll(lost, { timeout: 30_000 }).toEqual([false, false]);
  nodes[1].child.kill("SIGSTOP");
  try {
    await expect.poll(lost).toEqual([false, true]);
  } finally {
    nodes[1].child.kill("SIGCONT");
  }
  await expect.poll(lost, { timeout: 30_000 }).toEqual([false, false]);
  await guarded.close();
}, 90_000);

it("follows a slot that has moved to another primary: one refusal, then everything goes on", async () => {
  const [a, b] = nodes;
  const moving = new ValkeyConnection({ host: "127.0.0.1", port: a.port, cluster: true });
  // A slot of the first node that holds no key.
  const key = Array.from({ length: 5_000 }, (_, i) => `{free${i}}`).find((name) => slotOf(name) < 8_000)!;
  const set = () => moving.demand([{ key, name: "SET", args: [key, "1"] }]);
  await set();
  await moving.demand([{ key, name: "DEL", args: [key] }]);
  const [source, target] = await Promise.all([a, b].map(({ admin }) => admin.call("CLUSTER", "MYID").then(String)));
  const setSlot = (on: typeof a, state: string, node: string) =>
    on.admin.call("CLUSTER", "SETSLOT", `${slotOf(key)}`, state, node);
  // A target that was not importing would keep its epoch, and gossip could give the slot back.
  await setSlot(b, "IMPORTING", source);
  await setSlot(a, "MIGRATING", target);
  for (const node of [b, a]) await setSlot(node, "NODE", target);
  await expect(set()).rejects.toMatchObject({ code: "store_unavailable" });
  await set();
  expect(await b.admin.get(key)).toBe("1");
  await moving.close();
});

it("follows a primary that died to the replica that took its place", async () => {
  const [a, b] = nodes;
  await startNode();
  const replica = nodes[2];
  await replica.admin.call("CLUSTER", "MEET", "127.0.0.1", `${a.port}`, `${a.bus}`);
  const primaryId = String(await b.admin.call("CLUSTER", "MYID"));
  while (!String(await replica.admin.call("CLUSTER", "NODES")).includes(primaryId)) await sleep(50);
  await replica.admin.call("CLUSTER", "REPLICATE", primaryId);
  while (!(await replica.admin.info("replication")).includes("master_link_status:up")) await sleep(50);
  const key = Array.from({ length: 5_000 }, (_, i) => `{gone${i}}`).find((name) => slotOf(name) > 9_000)!;
  const following = new ValkeyConnection({ host: "127.0.0.1", port: a.port, cluster: true });
  const increase = () => following.demand([{ key, name: "INCR", args: [key] }]);
  await increase();
  const before = await following.runId(key);
  const owners = await ownersOf(following);
  expect(await ownersOf(connection)).toBe(owners);
  // Replication is asynchronous: the replica gets the write within moments.
  const offsetOf = async (admin: Redis, name: string) =>
    Number(new RegExp(`${name}:(\\d+)`).exec(await admin.info("replication"))?.[1]);
  const written = await offsetOf(b.admin, "master_repl_offset");
  await expect.poll(() => offsetOf(replica.admin, "slave_repl_offset")).toBeGreaterThanOrEqual(written);
  b.child.kill("SIGKILL");
  await replica.admin.call("CLUSTER", "FAILOVER", "TAKEOVER");
  const deadline = Date.now() + 40_000;
  let answer: unknown[] | null = null;
  while (answer === null && Date.now() < deadline) {
    answer = await increase().catch(() => null);
    if (answer === null) await sleep(100);
  }
  expect(answer).toEqual([2]);
  expect(await following.runId(key)).not.toBe(before);
  expect(await ownersOf(following)).not.toBe(owners);
  await following.close();
});
