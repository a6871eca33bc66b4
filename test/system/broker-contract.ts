/**
 * What holds on the deployed app whichever broker it has: every acknowledged event counts once, broken ones are set aside, late ones are repaired, a replay
 * changes nothing, and none of it is lost whatever is killed.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Watermark } from "../../adapters/valkey/watermark.ts";
import { readDeployment } from "../../cli/deployment.ts";
import { openFunctions } from "../../cli/invoke.ts";
import { replayFromBroker } from "../../cli/replay.ts";
import { NOTHING_YET } from "../../cli/replay-state.ts";
import { sealOf } from "../../cli/seal.ts";
import { plan } from "../../features/plan.ts";
import { laptopBroker } from "../../local/broker.ts";
import { openFlow, type StreamFlow } from "../../local/flow.ts";
import { disturb, type Outgoing } from "../../local/generator/disturb.ts";
import { httpSink, type Sink } from "../../local/generator/sinks.ts";
import { sinkTo } from "../../local/generator/topic-sink.ts";
import { readState } from "../../local/state.ts";
import { createTenant, deployed, deployedClientConfig } from "../support/deployed.ts";
import { deployment, functionEnvironment, invoke, settle, until, withStore } from "./app.ts";
import { expectFeatures, GroundTruth } from "./oracle.ts";
import { Load } from "./producer.ts";
import { REASONS, simulation } from "./sent.ts";
import { closeStored, scan } from "./stored.ts";

export interface BrokerFault {
  readonly name: string;
  /** Breaks something while events flow, and leaves it working. */
  strike(goesOn: () => Promise<void>): Promise<void>;
}

/** Producers, past the API. */
const producers = (packed: boolean, seed: number): Sink =>
  sinkTo(laptopBroker(ports().emulator, deployment()), deployed().streams, packed, seed, PATIENCE);
/** Attempts of a call to a broker that may be killed and started on a busy machine meanwhile. */
const PATIENCE = 200;

const ports = () => readState(deployed().home).ports as { emulator: number; valkey: number };
const STREAMS = ["transactions", "clicks", "labels"];

async function flows(): Promise<Map<string, StreamFlow>> {
  const reader = openFlow(ports(), deployment());
  try {
    return new Map((await reader.read()).map((flow) => [flow.stream, flow]));
  } finally {
    reader.close();
  }
}

export function brokerContract(name: string, faults: readonly BrokerFault[]): void {
  afterAll(closeStored);

  describe(`events through ${name}`, () => {
    let tenant: string;
    let key: string;
    let before: Map<string, StreamFlow>;
    let acknowledged: Outgoing[];
    let truth: GroundTruth;
    const startedMs = Date.now();

    beforeAll(async () => {
      ({ tenant, key } = await createTenant());
      before = await flows();
      const fractions = { duplicates: 0.08, late: 0.04, disorder: 0.06, malformed: 0.1 };
      const outs = [...disturb(simulation(tenant, 11, 8), 11, fractions)];
      const [json, direct] = [outs.filter((_, i) => i % 3 === 0), outs.filter((_, i) => i % 3 !== 0)];
      const whole = json.filter(({ fault }) => fault === null);
      expect(await httpSink(deployed().serve.url, key).send(whole)).toBe(whole.length);
      const sink = producers(true, 11);
      expect(await sink.send(direct)).toBe(direct.length);
      await sink.close();
      acknowledged = [...whole, ...direct];
      await settle(STREAMS, 120_000);
      await repaired(tenant);
      truth = new GroundTruth(acknowledged.flatMap(({ fault, event }) => (fault === null ? [event] : [])));
    }, 300_000);

    it("count once each, in every feature of every entity, however often, late and out of order they come", async () => {
      expect(acknowledged.length).toBeGreaterThan(truth.events.size * 1.1);
      expect(await expectFeatures(truth, key)).toBeGreaterThan(50);
    });

    it("are all accounted for, and the broken ones are in quarantine with their reasons", async () => {
      // The control function's heartbeats may still be on their way, and totals come after what they count.
      let after = before;
      await until("nothing to wait", async () => {
        after = await flows();
        return [...after.values()].every(({ waiting }) => waiting === 0);
      });
      const settled = (flow: StreamFlow) => flow.applied + flow.duplicates + flow.late + flow.quarantined;
      for (const stream of STREAMS) {
        const [was, is] = [before.get(stream)!, after.get(stream)!];
        const own = acknowledged.filter(({ event }) => event.stream === stream);
        // A broker, or a producer, may deliver one twice.
        expect(is.in - was.in).toBeGreaterThanOrEqual(own.length);
        expect(settled(is) - settled(was)).toBe(is.in - was.in);
        expect([is.waiting, is.lagMs]).toEqual([0, 0]);
      }
      const broken = acknowledged.filter(({ fault }) => fault !== null);
      expect(new Set(broken.map(({ fault }) => fault))).toEqual(new Set(Object.keys(REASONS)));
      const { FRESHET_QUARANTINE_TABLE: table } = await functionEnvironment("aggregate");
      const items = (await scan(table!)).filter(({ arrival_ms }) => Number(arrival_ms?.N ?? startedMs) >= startedMs);
      for (const reason of Object.values(REASONS)) {
        const expected = broken.filter(({ fault }) => REASONS[fault!] === reason).length;
        expect(items.filter((item) => item["reason"]?.S === reason).length).toBeGreaterThanOrEqual(expected);
      }
    });

    it("that are replayed from the broker change nothing", async () => {
      const operated = await readDeployment("local", deployedClientConfig());
      const functions = openFunctions(operated);
      try {
        const sealMs = await sealOf(operated, "transactions");
        const counts = await replayFromBroker(
          {
            ...{ stream: "transactions", fromMs: startedMs - 1_000, toMs: Date.now(), sealMs },
            ...{ dryRun: false, ratePerS: undefined },
          },
          {
            ...{ deployment: operated, functions, signal: new AbortController().signal },
            ...{ state: NOTHING_YET, keep: () => {} },
          },
        );
        expect(counts.events).toBeGreaterThan(100);
        expect(counts.applied).toBe(0);
      } finally {
        functions.close();
      }
      await repaired(tenant);
      await expectFeatures(truth, key);
    });
  });

  describe.each(faults)(`with ${name}: $name`, ({ strike }) => {
    it("nothing is lost, and nothing counts twice", async () => {
      const { tenant, key } = await createTenant();
      const load = new Load(tenant, { seed: 21, packed: false, sink: producers(false, 21) });
      const goesOn = async (): Promise<void> => {
        const sent = load.events.length;
        await until("the load to go on", async () => load.events.length > sent + 150, 120_000);
      };
      try {
        await goesOn();
        await strike(goesOn);
        await goesOn();
      } finally {
        await load.stop();
      }
      await settle(STREAMS, 120_000);
      await withStore(async (connection) => {
        const watermark = new Watermark(connection);
        for (const { name: stream } of plan.streams) {
          await until(
            `the registered batches of ${stream} to be cleared`,
            async () => (await watermark.read(stream)).outstanding.length === 0,
          );
        }
      });
      const truth = new GroundTruth(load.events);
      expect(truth.events.size).toBeLessThan(load.events.length);
      expect(await expectFeatures(truth, key)).toBeGreaterThan(40);
    });
  });
}

/** Waits until nothing of the tenant waits for repair. */
async function repaired(tenant: string): Promise<void> {
  const { FRESHET_LATE_TABLE: table } = await functionEnvironment("aggregate");
  await until(
    "late events to be repaired",
    async () => {
      await invoke("repair");
      return (await scan(table!)).every((item) => item["tenant"]?.S !== tenant);
    },
    120_000,
    500,
  );
}
