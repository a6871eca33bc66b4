/**
 * Repair (DESIGN §6): events that came below the seal are looked up in the archive, folded into what has been made of their tiles, and
 * archived as repaired, with the store's clock of that moment as their visible time (docs/decisions/0049-repair.md).
 *
 * It may die, be repeated, and run beside itself between any two of its steps: look at the entity, look into the archive, fold, archive, settle,
 * take the item out. Time and I/O come through its ports.
 */
import type { ArchiveWriter } from "../../../adapters/archive/archive.ts";
import { joinKeyParts } from "../../../adapters/aws/key-parts.ts";
import type { LateItem, LateQueue } from "../../../adapters/late-queue/late-queue.ts";
import type { LateWork, PendingItem } from "../../../adapters/late-queue/late-work.ts";
import { type FoundEvents, type SoughtEvent, visibleKey } from "../../../adapters/offline/late-rows.ts";
import type { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { bucketOf, entityKey } from "../../../adapters/valkey/layout.ts";
import { encodeMend, type MendOutcome, type MendRecord, type MendToken } from "../../../adapters/valkey/mend.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import type { Plan, Stream } from "../../../core/plan.ts";
import { type Candidate, completedRows, fingerprintOf, lateElsewhere, type Repaired } from "./repaired-rows.ts";
import { callsOf, settleRepairs } from "./settle-repairs.ts";

export interface RepairPorts {
  readonly plan: Plan;
  /** Generations and repairs of entities, as their hashes hold them. */
  readonly tokens: (keys: readonly string[]) => Promise<readonly MendToken[]>;
  readonly applier: Pick<StoreApplier, "mend">;
  /** Who works below the seal of a stream, as a bulk build does; null for nobody. */
  readonly holder: (stream: string) => Promise<string | null>;
  readonly find: (of: {
    readonly tenant: string;
    readonly stream: Stream;
    readonly events: readonly SoughtEvent[];
  }) => Promise<FoundEvents>;
  /** Event time before which the archive holds nothing any more; 0 when it is whole. */
  readonly archiveFromMs: (stream: string) => Promise<number>;
  readonly archive: Pick<ArchiveWriter, "write">;
  readonly late: Pick<LateQueue, "put">;
  readonly work: Pick<LateWork, "remove" | "putOff">;
  /** Of what failed, and may be repeated. */
  readonly onFailure: (item: LateItem, error: unknown) => void;
  readonly clock: () => number;
}

/** In the names of the objects that repair writes. */
export const REPAIR_SHARD = "repair";
/** Items of one pass: bounds a call of the store, and what is asked of the archive at once. */
export const ITEMS_PER_PASS = 500;
/** Somebody else's repairs or puts of the same entity overtook it this often: the next round has better luck. */
const MAX_RACES = 4;

/**
 * `repaired` by this pass; `known`: visible already; `expired`: from before the archive's beginning, so nobody can tell whether they were counted,
 * or of an entity that was erased or that the plan has no longer. The others stay in the queue: `waiting` by reason, `failed` with an attempt counted.
 */
export interface PassReport {
  readonly repaired: number;
  readonly known: number;
  readonly expired: number;
  readonly failed: number;
  readonly waiting: Readonly<Record<string, number>>;
  /** What was taken out of the queue. */
  readonly done: readonly PendingItem[];
}

/**
 * @param items of one tenant and stream, `ITEMS_PER_PASS` at most
 * @throws InfrastructureError; RecordError `archive_corrupt`, `archive_version`: nothing is lost, all of it can be done again
 */
export async function repairPass(
  ports: RepairPorts,
  stream: Stream,
  items: readonly PendingItem[],
): Promise<PassReport> {
  const pass = new Pass(ports, stream);
  const holder = await ports.holder(stream.name);
  if (holder === null) await pass.run(items);
  else pass.wait(`${holder} works below the seal`, items.length);
  return pass.report();
}

interface Mended {
  readonly repaired: Repaired[];
  readonly raced: PendingItem[];
  readonly erased: PendingItem[];
}

class Pass {
  private readonly ports: RepairPorts;
  private readonly stream: Stream;
  private readonly packer: RecordPacker;
  private readonly counts = { repaired: 0, known: 0, expired: 0, failed: 0 };
  private readonly waiting: Record<string, number> = {};
  private readonly done: PendingItem[] = [];

  constructor(ports: RepairPorts, stream: Stream) {
    this.ports = ports;
    this.stream = stream;
    this.packer = new RecordPacker(ports.plan, stream.name);
  }

  report(): PassReport {
    return { ...this.counts, waiting: this.waiting, done: this.done };
  }

  wait(reason: string, count = 1): void {
    this.waiting[reason] = (this.waiting[reason] ?? 0) + count;
  }

  async run(items: readonly PendingItem[]): Promise<void> {
    const { plan, archiveFromMs } = this.ports;
    const fromMs = await archiveFromMs(this.stream.name);
    const isOurs = ({ entity, eventTimeMs }: PendingItem) =>
      eventTimeMs >= fromMs &&
      plan.groups.some((group) => group.entity === entity && group.stream === this.stream.name);
    const expired = items.filter((item) => !isOurs(item));
    await this.giveUp(expired);
    let left = items.filter(isOurs);
    for (let race = 0; left.length > 0 && race < MAX_RACES; race++) left = await this.attempt(left);
    if (left.length > 0) this.wait("others repair the same entities", left.length);
  }

  /** @returns items of entities that somebody else has changed meanwhile */
  private async attempt(items: readonly PendingItem[]): Promise<PendingItem[]> {
    const { tenant } = items[0]!;
    // Before the archive is listed: what the store says of a repair must not be newer than what the archive says.
    const tokens = await this.readTokens(items);
    const found = await this.ports.find({ tenant, stream: this.stream, events: items });
    const isVisible = ({ entity, id, identity }: LateItem) => found.visible.has(visibleKey(entity, id, identity));
    const known = items.filter(isVisible);
    await this.settle(known, tokens);
    await this.takeOut(known);
    this.counts.known += known.length;
    const candidates: Candidate[] = [];
    for (const item of items) {
      if (isVisible(item)) continue;
      const candidate = await this.candidateOf(item, found, tokens.get(keyOf(item))!);
      if (candidate !== null) candidates.push(candidate);
    }
    if (candidates.length === 0) return [];
    const { repaired, raced } = await this.mend(candidates, tokens);
    if (repaired.length > 0) {
      const rows = completedRows(repaired);
      await this.ports.late.put(lateElsewhere(repaired));
      await this.ports.archive.write(rows, { stream: this.stream.name, shard: REPAIR_SHARD });
      const done = repaired.map(({ candidate }) => candidate.item);
      await this.settle(done, null);
      await this.takeOut(done);
      this.counts.repaired += repaired.length;
    }
    return raced;
  }

  private async readTokens(items: readonly PendingItem[]): Promise<Map<string, MendToken>> {
    const keys = [...new Map(items.map((item) => [keyOf(item), this.storeKeyOf(item)]))];
    const tokens = await this.ports.tokens(keys.map(([, { key }]) => key));
    return new Map(keys.map(([name], i) => [name, tokens[i]!]));
  }

  /** Null when the item has to wait, or failed. */
  private async candidateOf(item: PendingItem, found: FoundEvents, token: MendToken): Promise<Candidate | null> {
    const folded = token.unsettled.find(({ identity }) => identity === item.identity);
    let reason: unknown = null;
    try {
      for (const row of found.rows.get(item.identity) ?? []) {
        const fields = row.fields as never;
        const { updates } = this.packer.prepare(item.tenant, row.eventId!, row.eventTimeMs!, fields, item.identity);
        const update = updates.find(({ entity, id }) => entity === item.entity && id === item.id);
        const fingerprint = fingerprintOf(row);
        // One that was folded by a repair that died is to be archived with the payload that it was folded with.
        if (update === undefined || (folded !== undefined && folded.fingerprint !== fingerprint)) continue;
        return { item, row, fingerprint, update, updates };
      }
      this.wait("not in the archive yet");
    } catch (error) {
      reason = error;
    }
    if (reason !== null) await this.fail(item, reason);
    return null;
  }

  /** Where the store's function throws over one of many, each is repaired by itself: what was folded already is told by its token. */
  private async mend(
    candidates: readonly Candidate[],
    tokens: ReadonlyMap<string, MendToken>,
  ): Promise<{ repaired: Repaired[]; raced: PendingItem[] }> {
    try {
      return await this.mendTogether(candidates, tokens);
    } catch (error) {
      if (!isFunctionError(error)) throw error;
      const raced: PendingItem[] = [];
      if (candidates.length === 1) await this.fail(candidates[0]!.item, error);
      else for (const { item } of candidates) raced.push(...(await this.attempt([item])));
      return { repaired: [], raced };
    }
  }

  private async mendTogether(candidates: readonly Candidate[], tokens: ReadonlyMap<string, MendToken>) {
    const byKey = Map.groupBy(candidates, ({ item }) => keyOf(item));
    const entities = [...byKey].map(([name, own]) => {
      const sorted = own.toSorted((a, b) => a.update.baseIndex - b.update.baseIndex);
      const { bucket, key, groupId } = sorted[0]!.update;
      const records = sorted.map(
        ({ item, fingerprint, update }): MendRecord => ({ identity: item.identity, fingerprint, update }),
      );
      return { bucket, key, sorted, blob: encodeMend(groupId, tokens.get(name)!, records) };
    });
    const calls = callsOf(entities);
    const answers = await this.ports.applier.mend(calls.map(({ bucket, members }) => ({ bucket, puts: members })));
    const repaired: Repaired[] = [];
    const raced: PendingItem[] = [];
    const erased: PendingItem[] = [];
    calls.forEach(({ members }, c) => {
      members.forEach(({ sorted }, m) => {
        const answer = answers[c]![m]!;
        if (answer.kind === "done") {
          for (const [i, candidate] of sorted.entries())
            this.note(candidate, answer.outcomes[i]!, { repaired, raced, erased });
        } else if (answer.kind === "raced") raced.push(...sorted.map(({ item }) => item));
        else this.wait("the store folds nothing now", sorted.length);
      });
    });
    await this.giveUp(erased);
    return { repaired, raced };
  }

  private note(candidate: Candidate, outcome: MendOutcome, { repaired, raced, erased }: Mended): void {
    if (outcome.fate === "mended") {
      // Somebody else has folded another of its payloads, which the token did not tell yet.
      const isOther = outcome.fingerprint !== null && outcome.fingerprint !== candidate.fingerprint;
      if (isOther) raced.push(candidate.item);
      else repaired.push({ candidate, visibleMs: outcome.visibleMs });
    } else if (outcome.fate === "erased") erased.push(candidate.item);
    else if (outcome.fate === "open") this.wait("not sealed yet");
    else this.wait("features that were added later wait for `freshet backfill`");
  }

  /**
   * Tells the store that the archive has them.
   * @param tokens null: all of them are to be told
   */
  private async settle(items: readonly PendingItem[], tokens: ReadonlyMap<string, MendToken> | null): Promise<void> {
    const isUnsettled = (item: PendingItem) =>
      tokens === null || tokens.get(keyOf(item))!.unsettled.some(({ identity }) => identity === item.identity);
    const entities = [...Map.groupBy(items.filter(isUnsettled), keyOf).values()].map((own) => ({
      ...this.storeKeyOf(own[0]!),
      identities: own.map(({ identity }) => identity),
    }));
    await settleRepairs(this.ports.applier, entities);
  }

  private async giveUp(items: readonly PendingItem[]): Promise<void> {
    await this.takeOut(items);
    this.counts.expired += items.length;
  }

  private async takeOut(items: readonly PendingItem[]): Promise<void> {
    if (items.length > 0) await this.ports.work.remove(items);
    this.done.push(...items);
  }

  private async fail(item: PendingItem, error: unknown): Promise<void> {
    if (error instanceof InfrastructureError) throw error;
    this.ports.onFailure(item, error);
    this.counts.failed++;
    const code = error instanceof FreshetError ? error.code : "repair_failed";
    await this.ports.work.putOff(item, code, this.ports.clock());
  }

  private storeKeyOf({ tenant, entity, id }: LateItem) {
    const group = this.ports.plan.groups.find((each) => each.entity === entity && each.stream === this.stream.name)!;
    const bucket = bucketOf(tenant, entity, id);
    return { bucket, key: entityKey(bucket, tenant, entity, this.stream.name, id), groupId: group.id };
  }
}

const keyOf = ({ entity, id }: LateItem): string => joinKeyParts(entity, id);

const isFunctionError = (error: unknown): boolean =>
  error instanceof FreshetError && error.code === "store_function_failed";
