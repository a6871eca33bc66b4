/**
 * Parts of the deployed app are killed for real while events flow. After each, every acknowledged event counts exactly once;
 * where the store may lack some, answers say so until `recover` has replayed them. Scores never fail.
 */
import { existsSync, readdirSync, rmSync, statSync, truncateSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Watermark } from "../../adapters/valkey/watermark.ts";
import { readDeployment } from "../../cli/deployment.ts";
import { type Recovery, recover } from "../../cli/recovery.ts";
import type { ControlReport } from "../../functions/shared/control-loop.ts";
import { functionWorkers } from "../../local/function-workers.ts";
import { isRunning, readRecord } from "../../local/processes.ts";
import {
  createTenant,
  deployed,
  deployedClientConfig,
  killDeployedPart,
  startDeployedPart,
  stopDeployedPart,
} from "../support/deployed.ts";
import { call, invoke, readiness, settle, until, withStore } from "./app.ts";
import { expectFeatures, GroundTruth } from "./oracle.ts";
import { Load } from "./producer.ts";

const STREAMS = ["transactions", "clicks"];
const DECISIONS = ["approve", "review", "decline"];

let tenant: string;
let key: string;
let load: Load;
let scores: ScoreWatch;
/** Of the append-only file, when the test began. */
let sizeBefore: number;
let tests = 0;

beforeEach(async () => {
  ({ tenant, key } = await createTenant());
  sizeBefore = statSync(appendOnlyFile()).size;
  tests++;
  load = new Load(tenant, { seed: tests, packed: tests % 2 === 0 });
  scores = new ScoreWatch(key);
  // Enough that there is something to lose.
  await until("the first events to count", async () => {
    const written = statSync(appendOnlyFile()).size - sizeBefore;
    return written > 100_000 && load.events.length > 300 && (await someMerchant()).tx > 0;
  });
  // What answers while the store does not.
  expect(await invoke("snapshot")).toMatchObject({ items: { outcome: "complete" } });
});

afterEach(async () => {
  await scores.stop();
  await load.stop().catch(() => {});
  // Whatever a failed test left behind, the next one finds the app whole.
  for (const part of ["valkey", "emulator"] as const) {
    if (!isRunning(readRecord(deployed().home, part))) await startDeployedPart(part);
  }
  if ((await readiness()).control !== "ok") await recoverStore();
});

describe("the store is killed", () => {
  it.each([
    { comes: "with its append-only file", keep: 1 },
    // As after a power cut: what was not yet on the disk is gone.
    { comes: "with an append-only file that lacks its newest part", keep: 0.5 },
  ])("and comes back $comes: what may be missing is said until it is replayed", async ({ keep }) => {
    killDeployedPart("valkey");
    await expectUnreachable();
    const file = appendOnlyFile();
    const size = statSync(file).size;
    truncateSync(file, Math.floor(sizeBefore + keep * (size - sizeBefore)));
    await sleep(500);
    await startDeployedPart("valkey");

    const ready = await until("the API to know the store again", async () => {
      const told = await readiness();
      return told.reachable && told.control !== "unknown" && told;
    });
    expect(ready).toMatchObject({ status: 200, control: "failover" });
    await expectDegraded("failover");
    await settle(STREAMS);
    await control();
    // Nothing but a replay clears it: neither new events nor the control function.
    await expectDegraded("failover");

    if (keep < 1) {
      // Without a load that goes on, what the replay applies is what was missing.
      await load.stop();
      await settle(STREAMS);
    }
    const { found, state, steps } = await recoverStore();
    expect([found, state]).toEqual(["failover", "ok"]);
    if (keep < 1) expect(steps.reduce((sum, { applied }) => sum + applied, 0)).toBeGreaterThan(0);
    else await loadGoesOn();
    await expectEveryEventOnce();
  });

  it("and again while it is being replayed: what the replay brought is not taken for whole", async () => {
    const restart = async () => {
      killDeployedPart("valkey");
      await startDeployedPart("valkey");
      return until("the control function to reach the store", () => control().catch(() => null));
    };
    const { state, runs } = await restart();
    expect(state).toBe("failover");
    await restart();
    expect(await invoke("control", { kind: "accept", runs })).toMatchObject({ state: "failover" });
    // The API connects again by itself, when it gets to it; until then it says `store_unavailable`, which is as true.
    await until("the API to reach the store again", async () => (await readiness()).reachable);
    await expectDegraded("failover");
    expect(await recoverStore()).toMatchObject({ found: "failover", state: "ok" });
    await expectEveryEventOnce();
  });

  it.each([
    { from: "a snapshot and what came since", snapshot: "latest" },
    { from: "all that the broker holds", snapshot: "none" },
  ])("and comes back empty: applies block until it is whole from $from", async ({ snapshot }) => {
    const before = (await control()).epoch;
    killDeployedPart("valkey");
    await expectUnreachable();
    rmSync(dirname(appendOnlyFile()), { recursive: true });
    await sleep(500);
    await startDeployedPart("valkey");

    const lost = await until("the loss to be told", async () => {
      const ready = await readiness();
      return ready.control === "lost" && ready;
    });
    expect(lost).toMatchObject({ status: 503, reachable: true });
    expect(lost.repair).toContain("freshet recover");
    await expectDegraded("lost");
    // The control function runs each minute, and must not take the empty store for a new one.
    expect(await control()).toMatchObject({ state: "lost" });
    await sleep(1_500);
    expect(await readiness()).toMatchObject({ status: 503, control: "lost" });
    // Of the store's own it would be null by now.
    await until("features to come from snapshots", async () => (await someMerchant()).tx > 0);

    expect(await recoverStore(snapshot)).toMatchObject({ found: "lost", state: "ok" });
    expect((await control()).epoch).toBe(before + 1);
    await loadGoesOn();
    await expectEveryEventOnce();
  });
});

// Workers are told apart by their environment, which only Linux shows.
describe.skipIf(!existsSync("/proc/self/environ"))("the aggregate function's process is killed", () => {
  it("in the midst of batches: they are delivered again and count once", async () => {
    let interrupted = 0;
    // A batch may be cleared between the look and the kill.
    for (let kills = 0; kills < 4 || (interrupted === 0 && kills < 40); kills++) {
      const [worker] = await until("a worker of the aggregate function", async () => {
        const pids = workersOf("aggregate");
        return pids.length > 0 && pids;
      });
      await withStore(async (connection) => {
        const watermark = new Watermark(connection);
        const registered = async () => {
          const { outstanding } = await watermark.read("transactions");
          return outstanding.length > 0 && outstanding;
        };
        const [span] = await until("a batch that is registered and not cleared", registered, 60_000, 0);
        process.kill(worker, "SIGKILL");
        await until("the worker to end", async () => !workersOf("aggregate").includes(worker), 30_000, 1);
        const { outstanding } = await watermark.read("transactions");
        if (outstanding.some((left) => left.firstSequence === span.firstSequence)) interrupted++;
      });
      await expectWholeScore();
    }
    expect(interrupted).toBeGreaterThan(0);
    await loadGoesOn();
    await expectEveryEventOnce();
  });
});

describe("the emulator is ended and started with its state", () => {
  it("and goes on where it was; the plain server scores meanwhile", async () => {
    await stopDeployedPart("emulator");
    await expectWholeScore();
    await startDeployedPart("emulator");
    await loadGoesOn();
    await expectEveryEventOnce();
    const gateway = await call(deployed().api.url, "/v1/score/fraud", key, scorable());
    expect(gateway).toMatchObject({ status: 200, body: { degraded: false } });
  });
});

const scorable = () => ({ card_id: "card_000001_1", merchant_id: "merchant_00001", amount: 10, country: "SE" });

async function score() {
  const { status, body } = await call(deployed().serve.url, "/v1/score/fraud", key, scorable());
  return { status, decision: body.decision, degraded: body.degraded_reason };
}

/** A busy machine may have one miss its budget of time, and says so. */
const expectWholeScore = () =>
  until("a score of the store's features", async () => {
    const { status, degraded } = await score();
    expect(status).toBe(200);
    return degraded === null;
  });

/** A merchant that many pay. */
async function someMerchant() {
  const features = ["merchant_activity:tx_count_1h"];
  const { status, body } = await call(deployed().serve.url, "/v1/features/online", key, {
    entities: { merchant_id: "merchant_00001" },
    features,
  });
  return { status, code: body.code, degraded: body.degraded_reason, tx: body.features?.[features[0]].value };
}

/** Scores and reads say why they may be wrong: of entities that events come for, and of any other. */
async function expectDegraded(reason: string): Promise<void> {
  // Where the store has lost what it had, a snapshot knows better.
  const reasons = reason === "lost" ? /^(lost|snapshot)$/ : new RegExp(`^${reason}$`);
  // Some scores come from snapshots until one has found out that the store is back.
  await until(`scores to say ${reason}`, async () => reasons.test((await score()).degraded ?? ""));
  const told = expect.stringMatching(reasons);
  expect(await score()).toMatchObject({ status: 200, degraded: told });
  expect(await inBudget(someMerchant)).toMatchObject({ status: 200, degraded: told });
  for (let i = 0; i < 20; i++) {
    const silent = async () => {
      const { status, body } = await call(deployed().serve.url, `/v1/features/device/silent-${i}`, key);
      return { status, code: body.code, degraded: body.degraded_reason };
    };
    expect(await inBudget(silent)).toMatchObject({ status: 200, degraded: told });
  }
}

/** A read for which a busy machine has missed its budget of time says so, and is asked again. */
const inBudget = <T extends { readonly status: number; readonly code?: string }>(ask: () => Promise<T>): Promise<T> =>
  until("a read within its budget", async () => {
    const answer = await ask();
    const isMissed = answer.status === 503 && answer.code === "store_unavailable";
    return !isMissed && answer;
  });

/** Where the store writes what it does. */
function appendOnlyFile(): string {
  const folder = join(deployed().home, "valkey", "appendonlydir");
  const newest = readdirSync(folder)
    .filter((name) => name.endsWith(".incr.aof"))
    .sort((a, b) => a.length - b.length || (a < b ? -1 : 1))
    .pop();
  return join(folder, newest!);
}

async function expectUnreachable(): Promise<void> {
  await until("the API to miss the store", async () => !(await readiness()).reachable);
  // Ready all the same: every host shares the store, and snapshots stand in for it.
  expect(await readiness()).toMatchObject({ status: 200, control: "unknown" });
  await until("scores to come from snapshots", async () => (await score()).degraded === "snapshot");
  await until("features to come from snapshots", async () => (await someMerchant()).degraded === "snapshot");
  expect((await someMerchant()).tx).toBeGreaterThan(0);
}

/** Runs the control function, as the heartbeat does each minute. */
const control = () => invoke("control") as Promise<ControlReport>;

/** What `freshet recover` does. */
const recoverStore = async (snapshot = "latest"): Promise<Recovery> =>
  recover(await readDeployment("local", deployedClientConfig()), () => {}, { snapshot });

async function loadGoesOn(): Promise<void> {
  const sent = load.events.length;
  await until("the load to go on", async () => load.events.length > sent + 200);
}

/** Ends the load, waits until all of it is applied, and holds every entity against the oracle. */
async function expectEveryEventOnce(): Promise<void> {
  await load.stop();
  await settle(STREAMS);
  await expectNothingRegistered();
  const truth = new GroundTruth(load.events);
  expect(truth.events.size).toBeLessThan(load.events.length);
  expect(await readiness()).toMatchObject({ status: 200, control: "ok" });
  await expectFeatures(truth, key);
  const answers = await scores.stop();
  expect(answers.length).toBeGreaterThan(10);
  for (const { status, decision } of answers) {
    expect(status).toBe(200);
    expect(DECISIONS).toContain(decision);
  }
}

/** A registration that nobody clears would hold the seal back for ever. */
const expectNothingRegistered = () =>
  withStore(async (connection) => {
    const watermark = new Watermark(connection);
    for (const stream of STREAMS) {
      await until(
        `the registered batches of ${stream} to be cleared`,
        async () => (await watermark.read(stream)).outstanding.length === 0,
      );
    }
  });

/** Scores all the time, as callers do whatever happens. */
class ScoreWatch {
  readonly #answers: { status: number; decision: string }[] = [];
  #stopped = false;
  readonly #done: Promise<void>;

  constructor(key: string) {
    this.#done = (async () => {
      while (!this.#stopped) {
        const { status, body } = await call(deployed().serve.url, "/v1/score/fraud", key, scorable());
        this.#answers.push({ status, decision: body.decision });
        await sleep(50);
      }
    })();
    this.#done.catch(() => {});
  }

  async stop() {
    this.#stopped = true;
    await this.#done;
    return this.#answers;
  }
}

const workersOf = (name: string): number[] => functionWorkers(readRecord(deployed().home, "emulator")!.pid, name);
