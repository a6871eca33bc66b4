/** The control hashes, one a bucket: epoch, state, run id, and for each group its seal and the births of its slots. */
import { randomUUID } from "node:crypto";
import { isObject } from "../../core/operators/accumulators.ts";
import type { Group, Plan, Stream } from "../../core/plan.ts";
import { hash64 } from "../hash.ts";
import type { Command, ValkeyConnection } from "./connection.ts";
import {
  COMPLETE,
  CREATE,
  MARK,
  MOVE_SEAL,
  NOTICE_FAILOVER,
  OPEN,
  PUSHED_IS_BACK,
  PUT_BIRTHS,
  PUT_GROUP,
  SET_STATE,
} from "./control-scripts.ts";
import {
  type Birth,
  BUCKETS,
  CONTROL_FIELD,
  type ControlState,
  controlKey,
  decodeControl,
  decodeGroupControl,
  encodeControl,
  encodeGroupControl,
  groupField,
  groupsEnd,
  PUSHED_MISSING_FIELD,
  parseEntityKey,
  parsePushedKey,
  RESTORE_FIELD,
  runBytes,
  type ToldState,
  toldState,
} from "./layout.ts";

export interface GroupControl {
  readonly sealMs: number;
  readonly births: readonly Birth[];
}

/** What all buckets together say. */
export interface ControlSummary {
  readonly epoch: number | null;
  readonly present: number;
  /** Buckets in state `ok`. */
  readonly ok: number;
  /** The worst state of any bucket that is there. */
  readonly state: ToldState | null;
}

/** What one bucket says. */
export interface BucketHead {
  readonly epoch: number;
  readonly state: ControlState;
  /** Of the restore that has filled it last, or is filling it; null when none has. */
  readonly restore: string | null;
}

const everyBucket = Array.from({ length: BUCKETS }, (_, bucket) => controlKey(bucket));

/** Names primaries, all together: equal as long as no other one has come to answer for a bucket. */
export const runsOf = (primaries: readonly string[]): string => hash64([...new Set(primaries)].sort().join(","));

export class ControlHashes {
  private readonly connection: ValkeyConnection;
  private readonly plan: Plan;

  constructor(connection: ValkeyConnection, plan: Plan) {
    this.connection = connection;
    this.plan = plan;
  }

  async summary(): Promise<ControlSummary> {
    const answers = await this.connection.demand(
      everyBucket.map((key) => ({ key, name: "HGET", args: [key, CONTROL_FIELD] })),
    );
    const found = answers.flatMap((raw) => (raw ? [decodeControl(raw as Buffer)] : []));
    const order: ControlState[] = ["new", "loading", "restoring", "failover", "ok"];
    const worst = order.find((candidate) => found.some((control) => control.state === candidate));
    const state = worst === undefined ? null : toldState(worst);
    const ok = found.filter((control) => control.state === "ok").length;
    return { epoch: found[0]?.epoch ?? null, present: found.length, ok, state };
  }

  /** Of each bucket; null where its control hash is missing. */
  async heads(): Promise<(BucketHead | null)[]> {
    const answers = await this.connection.demand(
      everyBucket.map((key) => ({ key, name: "HMGET", args: [key, CONTROL_FIELD, RESTORE_FIELD] })),
    );
    return answers.map((answer) => {
      const [head, restore] = answer as (Buffer | null)[];
      if (head === null) return null;
      const { epoch, state } = decodeControl(head);
      return { epoch, state, restore: restore?.toString() ?? null };
    });
  }

  /**
   * Creates the buckets that are missing, blocked (`new`) until `open`.
   * @param pushedMissing what was pushed into an older epoch is still to come, until `pushedIsBack`
   */
  async create(
    epoch: number,
    groups: ReadonlyMap<string, GroupControl>,
    { pushedMissing = false }: { readonly pushedMissing?: boolean } = {},
  ): Promise<void> {
    const mark = pushedMissing ? [PUSHED_MISSING_FIELD, epochBytes(epoch)] : [];
    await this.connection.demand(
      await Promise.all(
        everyBucket.map(async (key): Promise<Command> => {
          const fields = this.plan.groups.flatMap((group) => {
            const control = groups.get(group.name);
            return control ? [groupField(group.name), encodeGroup(group, control)] : [];
          });
          const head = encodeControl(epoch, "new", await this.connection.runId(key));
          return { key, name: "EVAL", args: [CREATE, 1, key, CONTROL_FIELD, head, ...mark, ...fields] };
        }),
      ),
    );
  }

  /**
   * Removes every hash of the store, control hashes first, so that nothing of an older epoch is taken for the new one's.
   * The caller has made sure that all of it can be built again.
   * @param options.pushed also what was pushed. @default false: it is merged with what is pushed again
   */
  async drop({ pushed = false } = {}): Promise<void> {
    await this.connection.demand(everyBucket.map((key) => ({ key, name: "DEL", args: [key] })));
    for (const node of await this.connection.primaries()) {
      let cursor = "0";
      do {
        const [next, keys] = await node.scanBuffer(cursor, "COUNT", 1000, "TYPE", "hash");
        cursor = next.toString();
        const isOwn = (key: Buffer) => parseEntityKey(key) !== null || (pushed && parsePushedKey(key) !== null);
        const own = keys.filter(isOwn).map(String);
        await this.connection.demand(own.map((key) => ({ key, name: "UNLINK", args: [key] })));
      } while (cursor !== "0");
    }
  }

  /**
   * Sets every bucket of an epoch to a state, and remembers its primary as the one that is whole.
   * @param primaries of each bucket; one that has come to answer since is noticed as a failover. @default those of now
   */
  async setState(
    epoch: number,
    from: readonly ControlState[],
    to: ControlState,
    primaries?: readonly string[],
  ): Promise<void> {
    const known = primaries ?? (await this.primaries());
    const heads = from.map((state) => encodeControl(epoch, state, known[0]).subarray(0, 5));
    await this.connection.demand(
      everyBucket.map((key, bucket) => ({
        key,
        name: "EVAL",
        args: [SET_STATE, 1, key, CONTROL_FIELD, encodeControl(epoch, to, known[bucket]), ...heads],
      })),
    );
  }

  /**
   * Opens buckets that `create` made, for the primary that they were made on: where another one answers by now, something may
   * have been applied and lost together with the opening, which is noticed as a failover.
   */
  async open(epoch: number): Promise<void> {
    const [from, to] = (["new", "ok"] as const).map((state) =>
      encodeControl(epoch, state, "0".repeat(40)).subarray(0, 5),
    );
    await this.connection.demand(
      everyBucket.map((key) => ({ key, name: "EVAL", args: [OPEN, 1, key, CONTROL_FIELD, from, to] })),
    );
  }

  /** Run id of the primary that answers for each bucket now. */
  primaries(): Promise<string[]> {
    return Promise.all(everyBucket.map((key) => this.connection.runId(key)));
  }

  /**
   * Marks open buckets whose last writes went to another primary than the one that answers now.
   * @returns how many were marked
   */
  async noticeFailover(): Promise<number> {
    const answers = await this.connection.demand(
      await Promise.all(
        everyBucket.map(async (key): Promise<Command> => {
          const run = runBytes(await this.connection.runId(key));
          return { key, name: "EVAL", args: [NOTICE_FAILOVER, 1, key, CONTROL_FIELD, run] };
        }),
      ),
    );
    return answers.filter((marked) => marked === 1).length;
  }

  /** By bucket: the mark of what took its pushed values away, as hex, where they are not back. */
  async pushedMarks(): Promise<ReadonlyMap<number, string>> {
    const answers = await this.connection.demand(
      everyBucket.map((key) => ({ key, name: "HGET", args: [key, PUSHED_MISSING_FIELD] })),
    );
    return new Map(
      answers.flatMap((mark, bucket) => (mark ? [[bucket, (mark as Buffer).toString("hex")] as const] : [])),
    );
  }

  /** What was pushed may be missing, in every bucket that is there: until `pushedIsBack` of this mark, which no other event gives. */
  async markPushedMissing(epoch: number): Promise<void> {
    const [field, value] = [PUSHED_MISSING_FIELD, Buffer.concat([epochBytes(epoch), Buffer.from(randomUUID())])];
    await this.connection.demand(
      everyBucket.map((key) => ({ key, name: "EVAL", args: [MARK, 1, key, CONTROL_FIELD, field, value] })),
    );
  }

  async lacksPushed(): Promise<boolean> {
    return (await this.pushedMarks()).size > 0;
  }

  /** What was pushed is back in buckets that bear one of these marks; one that has been marked otherwise since stays so. */
  async pushedIsBack(marks: readonly string[]): Promise<void> {
    const given = marks.map((mark) => Buffer.from(mark, "hex"));
    await this.connection.demand(
      everyBucket.map((key) => ({
        key,
        name: "EVAL",
        args: [PUSHED_IS_BACK, 1, key, PUSHED_MISSING_FIELD, ...given],
      })),
    );
  }

  /** A group's control in each bucket that is there. */
  async group(group: Group): Promise<(GroupControl | null)[]> {
    const answers = await this.connection.demand(
      everyBucket.map((key) => ({ key, name: "HGET", args: [key, groupField(group.name)] })),
    );
    return answers.map((raw) => {
      if (!raw) return null;
      const { sealIndex, births } = decodeGroupControl(raw as Buffer);
      return { sealMs: sealIndex * group.baseMs, births };
    });
  }

  /**
   * Moves the seal of all of a stream's groups on where it lies before `sealMs`; births stay as they are in each bucket.
   * @param untilUs store time from which on it does nothing, however late it is heard of. @default always
   */
  async moveSeal(
    { name, baseMs }: Pick<Stream, "name" | "baseMs">,
    sealMs: number,
    untilUs: number = Number.MAX_SAFE_INTEGER,
  ): Promise<void> {
    const seal = encodeGroupControl(Math.floor(sealMs / baseMs), []);
    await this.connection.demand(
      everyBucket.map((key) => ({
        key,
        name: "EVAL",
        args: [MOVE_SEAL, 1, key, CONTROL_FIELD, groupsEnd(name), seal, untilUs],
      })),
    );
  }

  /**
   * Writes a group's births into one bucket where they still are what the caller has read; a group that is not there yet
   * begins with `sealMs`.
   */
  async putBirths(
    group: Group,
    changes: readonly { bucket: number; read: readonly Birth[] | null; births: readonly Birth[] }[],
    sealMs: number,
  ): Promise<void> {
    await this.connection.demand(
      changes.map(({ bucket, read, births }) => {
        const key = controlKey(bucket);
        const bytes = encodeGroup(group, { sealMs, births });
        const before = read === null ? "none" : birthBytes(read);
        return { key, name: "EVAL", args: [PUT_BIRTHS, 1, key, CONTROL_FIELD, groupField(group.name), bytes, before] };
      }),
    );
  }

  /**
   * Takes slots for complete from a base index on (0: for ever), in buckets that are still where a build has left them: open,
   * in this epoch, and sealed at `sealIndex`. Nothing is changed in the others.
   * @returns for each bucket whether it was
   */
  async complete(
    group: Group,
    buckets: readonly number[],
    at: { readonly epoch: number; readonly sealIndex: number; readonly fromIndex: number },
    slots: readonly Pick<Birth, "object" | "slot">[],
  ): Promise<boolean[]> {
    const state = encodeControl(at.epoch, "ok", "").subarray(0, 5);
    const seal = encodeGroupControl(at.sealIndex, []);
    const born = birthBytes(slots.map((slot) => ({ ...slot, baseIndex: at.fromIndex })));
    const answers = await this.connection.demand(
      buckets.map((bucket) => {
        const key = controlKey(bucket);
        return {
          key,
          name: "EVAL",
          args: [COMPLETE, 1, key, CONTROL_FIELD, groupField(group.name), state, seal, born],
        };
      }),
    );
    return answers.map((done) => done === 1);
  }

  /** Writes a group's births, and its seal where it is greater than what is there; only into buckets that exist. */
  async putGroup(group: Group, control: GroupControl): Promise<void> {
    const bytes = encodeGroup(group, control);
    await this.connection.demand(
      everyBucket.map((key) => ({
        key,
        name: "EVAL",
        args: [PUT_GROUP, 1, key, CONTROL_FIELD, groupField(group.name), bytes],
      })),
    );
  }
}

const epochBytes = (epoch: number): Buffer => encodeControl(epoch, "ok", "").subarray(0, 4);

const birthBytes = (births: readonly Birth[]): Buffer => encodeGroupControl(0, births).subarray(4);

/** Every slot of a group, born at one base index. */
export const birthsOf = (group: Group, baseIndex: number): Birth[] =>
  group.slots.map(({ id, kind }) => ({ object: isObject(kind), slot: id, baseIndex }));

const encodeGroup = (group: Group, { sealMs, births }: GroupControl): Buffer =>
  encodeGroupControl(Math.floor(sealMs / group.baseMs), births);
