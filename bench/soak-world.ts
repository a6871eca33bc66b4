/**
 * A store that lives through simulated days: real Valkey, the real server-side function, the real control step and sweep. Only
 * the clock is the harness's: events, arrivals and control's time lie in the days to come.
 */
import { hash64 } from "../adapters/hash.ts";
import { StoreApplier } from "../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { parseEntityKey } from "../adapters/valkey/layout.ts";
import { createReader } from "../adapters/valkey/reader.ts";
import { RecordPacker } from "../adapters/valkey/record.ts";
import { sweep } from "../adapters/valkey/sweeper.ts";
import { Watermark } from "../adapters/valkey/watermark.ts";
import { compile, EMPTY_LOCK } from "../core/compile/compile.ts";
import { approxDistinct, count, entity, featureView, last, max, mean, sum } from "../core/definition.ts";
import { type ControlPorts, controlStep } from "../functions/shared/control-loop.ts";
import { contracts } from "../schemas/contracts.ts";
import { MemoryControlTable } from "../test/support/memory-control-table.ts";
import type { TestValkey } from "../test/support/valkey.ts";
import { transactions } from "./definitions.ts";

const card = entity("card", { joinKey: "card_id" });
const merchant = entity("merchant", { joinKey: "merchant_id" });
const user = entity("user", { joinKey: "user_id" });
const amount = { scale: 2 } as const;
const shared = { source: transactions, ttl: "3650d", owner: "bench" } as const;

/** A card's key may go after its longest window; a merchant's is busy, a user's rare, and both have a lifetime. */
export const { plan: soakPlan, lock } = compile(
  {
    entities: [card, merchant, user],
    streams: [transactions],
    views: [
      featureView("card_activity", {
        ...shared,
        entity: card,
        features: {
          tx_count: count().over("5m", "1h", "24h", "7d"),
          amount_mean: mean("amount", amount).over("24h", "7d"),
          amount_max: max("amount").over("1h", "24h"),
          merchants: approxDistinct("merchant_id").over("24h"),
          tx_settled: count().over("3d").delayedBy("3d"),
        },
      }),
      featureView("merchant_activity", {
        ...shared,
        entity: merchant,
        features: {
          tx_count: count().over("5m", "24h", "7d", "lifetime"),
          amount_sum: sum("amount", amount).over("24h", "lifetime"),
          cards: approxDistinct("card_id").over("24h"),
        },
      }),
      featureView("user_activity", {
        ...shared,
        entity: user,
        features: { tx_count: count().over("24h", "lifetime"), last_country: last("country") },
      }),
    ],
    services: [],
  },
  contracts,
  EMPTY_LOCK,
  hash64,
);

const SHARD = "shardId-000000000000";
const STREAM = "transactions";
/** Of an aggregate invocation; the seal stays so much, the lateness and a minute behind. */
const TIMEOUT_MS = 60_000;
/** A day of everything is applied between two looks, on a machine that may be doing other things. */
const STORE_TIMEOUT_MS = 60_000;

export interface SoakEvent {
  readonly id: string;
  readonly timeMs: number;
  readonly fields: {
    readonly card_id: string;
    readonly merchant_id: string;
    readonly user_id: string;
    readonly amount: number;
    readonly country: string;
  };
}

/** What is stored of some entities of one type, per entity. */
export interface Footprint {
  readonly keys: number;
  readonly bytes: number;
  readonly tiles: number;
  readonly identities: number;
}

export class SoakWorld {
  readonly reader;
  private readonly connection: ValkeyConnection;
  private readonly applier: StoreApplier;
  private readonly watermark: Watermark;
  private readonly packer = new RecordPacker(soakPlan, STREAM);
  private readonly ports: ControlPorts;
  private sequence = 0;
  private startMs = 0;

  constructor(valkey: TestValkey) {
    this.connection = new ValkeyConnection({ host: valkey.host, port: valkey.port, timeoutMs: STORE_TIMEOUT_MS });
    this.applier = new StoreApplier(this.connection, soakPlan, 1);
    this.watermark = new Watermark(this.connection);
    this.reader = createReader(soakPlan, { host: valkey.host, port: valkey.port, timeoutMs: STORE_TIMEOUT_MS });
    this.ports = {
      plan: soakPlan,
      lock,
      controls: new ControlHashes(this.connection, soakPlan),
      watermark: this.watermark,
      table: new MemoryControlTable().port,
      imports: async () => 0,
      timeoutMs: TIMEOUT_MS,
      loadFunction: async () => {},
    };
  }

  async begin(startMs: number): Promise<void> {
    this.startMs = startMs;
    await this.control(startMs);
  }

  /** One batch of the mapping, through register, apply and clear. Every event must be applied. */
  async deliver(events: readonly SoakEvent[], arrivalMs: number): Promise<void> {
    const sequences = events.map(() => String(++this.sequence).padStart(20, "0"));
    const span = { shard: SHARD, firstSequence: sequences[0], lastSequence: sequences.at(-1)! };
    const stamp = await this.watermark.register(STREAM, { ...span, firstArrivalMs: arrivalMs });
    const prepared = events.map(({ id, timeMs, fields }) => this.packer.prepare("default", id, timeMs, fields));
    const { fates } = await this.applier.apply(prepared);
    const refused = fates.flat().find(({ fate }) => fate !== "applied");
    if (refused !== undefined) throw new Error(`an event of ${refused.entity} ${refused.id} was ${refused.fate}`);
    await this.watermark.clear(STREAM, SHARD, sequences, arrivalMs, null, stamp);
  }

  /** The control step, as each minute's heartbeat has it run. */
  async control(nowMs: number): Promise<number> {
    const shards = [{ id: SHARD, parents: [], closed: false }];
    const { state, seals } = await controlStep(this.ports, { [STREAM]: { createdAtMs: this.startMs, shards } }, nowMs);
    if (state !== "ok") throw new Error(`control says ${state}`);
    return seals[STREAM];
  }

  async sweep(): Promise<void> {
    await sweep(this.connection, this.applier, soakPlan, Number.POSITIVE_INFINITY);
  }

  /**
   * Removes keys whose own expiry, as the function has set it, lies before an instant of the simulation: what Valkey does when
   * its clock gets there.
   */
  async expire(nowMs: number): Promise<number> {
    const keys = await this.keys(() => true);
    const answers = await this.connection.demand(keys.map((key) => ({ key, name: "PEXPIRETIME", args: [key] })));
    const over = keys.filter((_, i) => Number(answers[i]) > 0 && Number(answers[i]) <= nowMs);
    await this.connection.demand(over.map((key) => ({ key, name: "DEL", args: [key] })));
    return over.length;
  }

  async footprint(entity: string, of: (id: string) => boolean): Promise<Footprint> {
    const keys = await this.keys((parts) => parts.entity === entity && of(parts.id));
    const sizes = await this.connection.demand(
      keys.map((key) => ({ key, name: "MEMORY", args: ["USAGE", key, "SAMPLES", 0] })),
    );
    const contents = await this.connection.demand(keys.map((key) => ({ key, name: "HGETALL", args: [key] })));
    const total = { bytes: 0, tiles: 0, identities: 0 };
    keys.forEach((_, k) => {
      total.bytes += Number(sizes[k]);
      const flat = contents[k] as Buffer[];
      for (let i = 0; i < flat.length; i += 2) {
        const [name, value] = [flat[i], flat[i + 1]];
        if (name[0] === 0x69 && value.length > 1) total.identities += value.length / IDENTITY_BYTES;
        else if (name.length === 5 && name[0] < FIRST_LETTER) total.tiles++;
      }
    });
    const each = (value: number): number => (keys.length === 0 ? 0 : value / keys.length);
    return {
      keys: keys.length,
      bytes: each(total.bytes),
      tiles: each(total.tiles),
      identities: each(total.identities),
    };
  }

  async close(): Promise<void> {
    await this.reader.close();
    await this.connection.close();
  }

  private async keys(wanted: (parts: { entity: string; id: string }) => boolean): Promise<string[]> {
    const found: string[] = [];
    for (const node of await this.connection.primaries()) {
      for (const key of await node.keysBuffer("*")) {
        const parts = parseEntityKey(key);
        if (parts !== null && wanted(parts)) found.push(key.toString());
      }
    }
    return found;
  }
}

const IDENTITY_BYTES = 12;
/** Names of tiles begin with a level's id; those of other fields with a letter. */
const FIRST_LETTER = 65;
