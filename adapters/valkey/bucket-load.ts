/**
 * Writes hashes of a snapshot into buckets that are blocked for it. Each call names the restore that the bucket is blocked for, so
 * one that was overtaken by another restore changes nothing.
 */
import { forEachLimited } from "../aws/durable-call.ts";
import type { BulkRecord } from "../snapshot/bulk-format.ts";
import { keysByBucket } from "./bucket-walk.ts";
import type { Command, ValkeyConnection } from "./connection.ts";
import { CONTROL_FIELD, controlKey, encodeControl, groupField, PUSHED_MISSING_FIELD, RESTORE_FIELD } from "./layout.ts";

/** One call: bounds the time for which the server answers nobody else to some ms. */
const RECORDS_PER_CALL = 100;
const BYTES_PER_CALL = 256 * 1024;
/** One round trip. */
const CALLS_PER_TRIP = 8;
const UNLINKS_PER_TRIP = 1_000;

/** The control fields of a bucket's groups: u32 seal and births, by name of the group. */
export type BucketGroups = ReadonlyMap<string, Buffer>;

export class BucketLoader {
  private readonly connection: ValkeyConnection;
  private readonly epoch: number;
  /** Id of the restore. */
  private readonly restore: string;

  constructor(connection: ValkeyConnection, { epoch, restore }: { epoch: number; restore: string }) {
    this.connection = connection;
    this.epoch = epoch;
    this.restore = restore;
  }

  /**
   * Blocks buckets for this restore and for all else, whatever their state. Those that are blocked for it, or further, stay as they are.
   * What was pushed is marked as missing until it has been pushed again: the snapshot lacks the newest.
   */
  async block(buckets: readonly number[], groupsOf: (bucket: number) => BucketGroups): Promise<void> {
    await this.connection.demand(
      await Promise.all(
        buckets.map(async (bucket): Promise<Command> => {
          const key = controlKey(bucket);
          const head = encodeControl(this.epoch, "loading", await this.connection.runId(key));
          // Of this restore: what is pushed again for another one does not count for it.
          const mark = [PUSHED_MISSING_FIELD, Buffer.concat([head.subarray(0, 4), Buffer.from(this.restore)])];
          const fields = [CONTROL_FIELD, head, RESTORE_FIELD, this.restore, ...mark, ...fieldsOf(groupsOf(bucket))];
          const args = [BLOCK, 1, key, ...fields];
          return { key, name: "EVAL", args };
        }),
      ),
    );
  }

  /** Removes all that blocked buckets hold but their control hashes. */
  async clear(buckets: readonly number[]): Promise<void> {
    const wanted = new Set(buckets);
    const found = await keysByBucket(this.connection, Math.min(...buckets), Math.max(...buckets) + 1);
    const keys = [...found].flatMap(([bucket, own]) => (wanted.has(bucket) ? [...own] : []));
    for (let at = 0; at < keys.length; at += UNLINKS_PER_TRIP)
      await this.connection.demand(
        keys.slice(at, at + UNLINKS_PER_TRIP).map((key): Command => ({ key, name: "UNLINK", args: [key] })),
      );
  }

  /** Writes hashes, each in the place of what stands under its key. @returns false, with nothing more written, when the bucket isn't blocked for this restore */
  async load(bucket: number, records: readonly BulkRecord[]): Promise<boolean> {
    const calls = callsOf(records);
    let blocked = true;
    const trips = Array.from({ length: Math.ceil(calls.length / CALLS_PER_TRIP) }, (_, i) =>
      calls.slice(i * CALLS_PER_TRIP, (i + 1) * CALLS_PER_TRIP),
    );
    await forEachLimited(trips, 2, async (trip) => {
      if (!blocked) return;
      const answers = await this.connection.demand(
        trip.map((call): Command => {
          const key = controlKey(bucket);
          const keys = call.map((record) => record.key);
          return {
            key,
            name: "EVAL",
            args: [LOAD, 1 + keys.length, key, ...keys, ...this.fence(), ...call.map(blobOf)],
          };
        }),
      );
      if (answers.some((answer) => answer !== 1)) blocked = false;
    });
    return blocked;
  }

  /** Opens a bucket for replays. @returns false when it isn't blocked for this restore */
  async finish(bucket: number, groups: BucketGroups): Promise<boolean> {
    const key = controlKey(bucket);
    const head = encodeControl(this.epoch, "restoring", await this.connection.runId(key));
    const args = [FINISH, 1, key, ...this.fence(), head, ...fieldsOf(groups)];
    const [answer] = await this.connection.demand([{ key, name: "EVAL", args }]);
    return answer === 1;
  }

  private fence(): (string | Buffer)[] {
    return [encodeControl(this.epoch, "loading", "").subarray(0, 5), this.restore];
  }
}

const fieldsOf = (groups: BucketGroups): (string | Buffer)[] =>
  [...groups].flatMap(([name, control]) => [groupField(name), control]);

function callsOf(records: readonly BulkRecord[]): BulkRecord[][] {
  const calls: BulkRecord[][] = [];
  let open: BulkRecord[] = [];
  let bytes = 0;
  for (const record of records) {
    if (open.length === RECORDS_PER_CALL || (open.length > 0 && bytes + record.fields.length > BYTES_PER_CALL)) {
      calls.push(open);
      open = [];
      bytes = 0;
    }
    open.push(record);
    bytes += record.fields.length;
  }
  if (open.length > 0) calls.push(open);
  return calls;
}

function blobOf({ expiresMs, fields }: BulkRecord): Buffer {
  const expiry = Buffer.allocUnsafe(8);
  expiry.writeDoubleLE(expiresMs ?? -1);
  return Buffer.concat([expiry, fields]);
}

// KEYS[1] control hash; ARGV[1] head field, ARGV[2] head, ARGV[3] restore field, ARGV[4] restore, then further fields and values. A bucket that is being restored by it already stays as it is.
const BLOCK = `
local known = redis.call("HMGET", KEYS[1], ARGV[1], ARGV[3])
if known[1] and known[2] == ARGV[4] and string.sub(known[1], 1, 4) == string.sub(ARGV[2], 1, 4) then return 0 end
redis.call("DEL", KEYS[1])
return redis.call("HSET", KEYS[1], unpack(ARGV))`;

const FENCE = `
local known = redis.call("HMGET", KEYS[1], "${CONTROL_FIELD}", "${RESTORE_FIELD}")
if not known[1] or string.sub(known[1], 1, 5) ~= ARGV[1] or known[2] ~= ARGV[2] then return 0 end`;

// KEYS[1] control hash, KEYS[2..] hashes; ARGV[1] epoch and state that must stand, ARGV[2] restore, then for each hash f64 expiry
// (epoch ms, -1: stays) and its fields: u8 length and name, u32 length and value.
const LOAD = `${FENCE}
for k = 2, #KEYS do
  local key, blob, out, n = KEYS[k], ARGV[k + 1], {}, 0
  local expiry, at = struct.unpack("<d", blob)
  redis.call("DEL", key)
  while at <= #blob do
    out[n + 1], out[n + 2], at = struct.unpack("<Bc0I4c0", blob, at)
    n = n + 2
    if n == 2000 then
      redis.call("HSET", key, unpack(out, 1, n))
      n = 0
    end
  end
  if n > 0 then redis.call("HSET", key, unpack(out, 1, n)) end
  if expiry >= 0 then redis.call("PEXPIREAT", key, string.format("%.0f", expiry)) end
end
return 1`;

// KEYS[1] control hash; ARGV[1] and ARGV[2] as of LOAD, ARGV[3] new head, then field and value of each group.
const FINISH = `${FENCE}
redis.call("HSET", KEYS[1], "${CONTROL_FIELD}", unpack(ARGV, 3))
return 1`;
