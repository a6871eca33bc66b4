/**
 * What flows through the streams at this moment. The aggregate function counts per stream in Valkey, in the hash
 * `freshet:stats:<stream>`; what waits before it is asked from the broker.
 */

import { Redis } from "iovalkey";
import { openBroker } from "../adapters/broker/open-broker.ts";
import { parseEntityKey } from "../adapters/valkey/layout.ts";
import { statsKey } from "../adapters/valkey/stats.ts";
import { laptopBroker } from "./broker.ts";
import { LOOPBACK } from "./ports.ts";
import type { Deployment } from "./state.ts";

/** Totals since the store was made. */
export interface Counters {
  readonly in: number;
  readonly applied: number;
  readonly duplicates: number;
  readonly late: number;
  readonly quarantined: number;
}

export interface StreamFlow extends Counters {
  readonly stream: string;
  /** Arrival at the broker of the newest event that was applied; null before the first. */
  readonly lastArrivalMs: number | null;
  /** Arrival to servable, of the newest batch; null before the first. */
  readonly freshnessMs: number | null;
  /** Broker records that wait, at least. */
  readonly waiting: number;
  /** Age of the oldest that waits; 0 when none does. */
  readonly lagMs: number;
}

export interface SampleEntity {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
}

/** Events of all streams whose fate is settled. */
export function settledEvents(flows: readonly StreamFlow[]): number {
  return flows.reduce((sum, flow) => sum + flow.applied + flow.duplicates + flow.late + flow.quarantined, 0);
}

export interface FlowReader {
  read(): Promise<StreamFlow[]>;
  /** Some entities that the store holds, of the tenant. */
  sample(tenant: string, count: number): Promise<SampleEntity[]>;
  close(): void;
}

const COUNTERS = ["in", "applied", "duplicates", "late", "quarantined"] as const;
const SCAN_COUNT = 500;

export function openFlow(ports: { valkey: number; emulator: number }, deployment: Deployment): FlowReader {
  const valkey = new Redis({ host: LOOPBACK, port: ports.valkey, maxRetriesPerRequest: 1 });
  // A server that is away is told by the call that needed it.
  valkey.on("error", () => {});
  const broker = openBroker(laptopBroker(ports.emulator, deployment));
  // Told by the first read.
  broker.catch(() => {});

  async function readStream(stream: string, name: string): Promise<StreamFlow> {
    const stats = await valkey.hgetall(statsKey(stream));
    const time = (field: string): number | null => (stats[field] === undefined ? null : Number(stats[field]));
    const lastArrivalMs = time("lastArrivalMs");
    const lastAppliedMs = time("lastAppliedMs");
    const { records, oldestMs } = await (await broker).waitingAfter(name, lastArrivalMs);
    return {
      stream,
      ...(Object.fromEntries(COUNTERS.map((field) => [field, Number(stats[field] ?? 0)])) as unknown as Counters),
      lastArrivalMs,
      freshnessMs: lastArrivalMs === null || lastAppliedMs === null ? null : Math.max(0, lastAppliedMs - lastArrivalMs),
      waiting: records,
      lagMs: records === 0 ? 0 : Math.max(0, Date.now() - oldestMs),
    };
  }

  return {
    read: () => Promise.all(Object.entries(deployment.streams).map(([stream, name]) => readStream(stream, name))),
    async sample(tenant, count) {
      const found = new Map<string, SampleEntity>();
      let cursor = "0";
      do {
        const [next, keys] = await valkey.scanBuffer(cursor, "COUNT", SCAN_COUNT);
        cursor = next.toString();
        for (const key of keys) {
          const parts = parseEntityKey(key);
          // One of each kind first; a stream beside another of the same entity says nothing new.
          if (parts?.tenant !== tenant || found.has(parts.entity)) continue;
          found.set(parts.entity, { tenant, entity: parts.entity, id: parts.id });
        }
      } while (cursor !== "0" && found.size < count);
      return [...found.values()].slice(0, count).sort((a, b) => (a.entity < b.entity ? -1 : 1));
    },
    close() {
      valkey.disconnect();
      broker.then((opened) => opened.close()).catch(() => {});
    },
  };
}
