/** The functions that keep copies of what the store holds, bring it back from them, and take people out of all of it. */
import type { ItemsPort } from "../../adapters/erasure/items.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { ValuesArchive } from "../../adapters/pushed/values-archive.ts";
import { BulkStore } from "../../adapters/snapshot/bulk-store.ts";
import { isEpochChange } from "../../adapters/valkey/applier.ts";
import { ControlHashes } from "../../adapters/valkey/control.ts";
import { ownersOf } from "../../adapters/valkey/hash-walk.ts";
import type { ErasedEntity } from "../../core/erasure.ts";
import {
  createPusher,
  createPushStore,
  type PushInput,
  type PushOutcome,
} from "../../functions/api/registered/pusher.ts";
import { newErasure } from "../../functions/shared/erasure/erasure-request.ts";
import { type DueErasures, eraseDue } from "../../functions/shared/erasure/erasure-rounds.ts";
import {
  type RestoreReport as PushedReport,
  repeatPushed,
  restorePushed,
} from "../../functions/shared/materialization/restore-pushed.ts";
import { type BulkReport, bulkRound } from "../../functions/shared/snapshot/bulk-snapshot.ts";
import {
  finishRestore,
  type RestoreReport,
  type RestoreRequest,
  restoreSnapshot,
} from "../../functions/shared/snapshot/restore-snapshot.ts";
import { describeRounds, type RoundSummary } from "../../functions/shared/snapshot/rounds.ts";
import { SimulatedBucket } from "./bucket.ts";
import { SimulatedConnection, type SimulatedServer } from "./connection.ts";
import { applierOf, type Functions } from "./functions.ts";
import type { Deployed } from "./plans.ts";
import { PUSHED_FEATURES } from "./pushes.ts";
import type { Actor } from "./scheduler.ts";
import type { SideStores } from "./side-stores.ts";
import { MemoryErasures, type MemoryRuns } from "./tables.ts";

/** No run lasts as long. */
const KEEP_MS = 7 * 86_400_000;
/** More than the longest life of any function here. */
export const CONFIRM_MS = 6 * 60_000;

export class Keepers {
  readonly erasures = new MemoryErasures();
  private readonly runs: MemoryRuns;
  private readonly server: SimulatedServer;
  private readonly side: SideStores;
  private readonly functions: Functions;
  /** Which hold nothing here. */
  private readonly empty: SimulatedBucket;

  constructor(server: SimulatedServer, side: SideStores, functions: Functions, runs: MemoryRuns) {
    this.runs = runs;
    this.server = server;
    this.side = side;
    this.functions = functions;
    this.empty = new SimulatedBucket(server.scheduler, "other");
  }

  /** A round of bulk snapshots, or what of one can be done in `forMs`. */
  snapshot({ plan, lock }: Deployed, actor: Actor, forMs: number): Promise<BulkReport> {
    const connection = new SimulatedConnection(this.server, actor);
    const ports = {
      ...{ plan, lock, connection, keepMs: KEEP_MS, clock: this.clock },
      controls: new ControlHashes(connection, plan),
      snapshots: this.roundsOf(actor),
      progress: this.functions.progressOf(actor),
    };
    return bulkRound(ports, this.clock() + forMs);
  }

  async rounds(actor: Actor): Promise<RoundSummary[]> {
    return describeRounds(this.roundsOf(actor), 200, await this.side.tableOf(actor).getAbandoned());
  }

  /** One call of the restore function, which begins no further bucket after `forMs`. */
  restore(of: Deployed, actor: Actor, request: RestoreRequest, forMs: number): Promise<RestoreReport> {
    const { plan, lock } = of;
    const connection = new SimulatedConnection(this.server, actor);
    const runs = this.runs.of(this.server.scheduler, actor);
    const ports = {
      ...{ plan, lock, connection, clock: this.clock },
      controls: new ControlHashes(connection, plan),
      table: this.side.tableOf(actor),
      snapshots: this.roundsOf(actor),
      progress: this.functions.progressOf(actor),
      loadFunction: () => applierOf(connection, of, 0, false).loadFunction(),
      repeatPushed: () => repeatPushed(runs),
    };
    return restoreSnapshot(ports, request, this.clock() + forMs);
  }

  finish(actor: Actor): Promise<null> {
    return finishRestore({ table: this.side.tableOf(actor) });
  }

  /** What a client of the HTTP API asks for. @throws what it is told to ask again for */
  push(of: Deployed, actor: Actor, tenant: string, rows: readonly PushInput[]): Promise<PushOutcome> {
    const connection = new SimulatedConnection(this.server, actor);
    const open = async () => applierOf(connection, of, await this.functions.epoch(of, actor), false);
    const store = createPushStore(open, isEpochChange);
    const archive = new ValuesArchive(this.side.values.of(actor));
    return createPusher({ store, archive, clock: this.clock }).push(tenant, PUSHED_FEATURES, rows);
  }

  /** What was pushed, again, where it may be missing. */
  pushAgain({ plan, lock }: Deployed, actor: Actor, forMs: number): Promise<PushedReport> {
    const ports = {
      ...{ plan, lock, connection: new SimulatedConnection(this.server, actor) },
      table: this.side.tableOf(actor),
      runs: this.runs.of(this.server.scheduler, actor),
      mirror: this.mirrorOf(actor),
    };
    return restorePushed(ports, this.clock() + forMs);
  }

  /** `POST /v1/erasures`. */
  async askErasure({ plan }: Deployed, actor: Actor, tenant: string, subjects: readonly ErasedEntity[]): Promise<void> {
    const request = { tenant, subjects, block: false, by: "simulation" };
    const erasure = newErasure(plan, request, this.clock(), actor.name.replace(/\W/g, "-"));
    await this.erasures.of(this.server.scheduler, actor).create(erasure);
  }

  /** One run of the erase function, as in functions/erase.ts. */
  erase(of: Deployed, actor: Actor, forMs: number, replantOnly: boolean): Promise<DueErasures> {
    const { plan } = of;
    const { server, side } = this;
    const connection = new SimulatedConnection(server, actor);
    const controls = new ControlHashes(connection, plan);
    const nothing = this.empty.of(actor);
    const noItems = { table: "none", dynamodb: { send: async () => ({}) } } as unknown as ItemsPort;
    const epoch = () => this.functions.epoch(of, actor);
    const ports = {
      ...{ plan, clock: this.clock, confirmMs: CONFIRM_MS, duck: { folder: "" } },
      erasures: this.erasures.of(server.scheduler, actor),
      applier: async () => applierOf(connection, of, await epoch(), true),
      storeIdentity: async () => {
        const heads = await controls.heads();
        const isWhole = heads.every((head) => head?.state === "ok");
        const restores = heads.map((head) => head?.restore ?? "").join(",");
        return `${await epoch()} ${await ownersOf(connection)} ${restores}${isWhole ? "" : ` ${this.clock()}`}`;
      },
      late: side.lateItemsOf(actor),
      ...{ snapshots: noItems, quarantineIndex: noItems, quarantine: nothing, training: nothing },
      rounds: { snapshots: this.roundsOf(actor), objects: side.snapshots.of(actor) },
      archive: side.values.of(actor),
      mirror: Object.assign(this.mirrorOf(actor), { rewriter: side.rewriterOf(actor) }),
      onFailure: (_: unknown, error: unknown) => server.scheduler.note(`an erasure failed: ${error}`),
    };
    return eraseDue(ports, this.clock() + forMs, { replantOnly });
  }

  private readonly clock = (): number => Math.floor(this.server.scheduler.nowMs);

  private roundsOf(actor: Actor): BulkStore {
    return new BulkStore(this.side.snapshots.of(actor));
  }

  private mirrorOf(actor: Actor): ArchiveMirror {
    return new ArchiveMirror({ ...this.side.values.of(actor), folder: "" });
  }
}
