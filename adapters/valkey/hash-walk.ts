/**
 * A walk through all hashes of the store that have changed since an instant, each read whole in one call together with its
 * bucket's control. It can be taken up again where it was left, for as long as the same primaries answer.
 */
import type { Plan } from "../../core/plan.ts";
import { hash64 } from "../hash.ts";
import { type Command, commandError, type ValkeyConnection } from "./connection.ts";
import {
  BUCKETS,
  bucketOf,
  CONTROL_FIELD,
  controlKey,
  decodeControl,
  decodeMeta,
  decodePushedRev,
  groupField,
  type KeyParts,
  META_FIELD,
  PUSHED_REV_FIELD,
  parseEntityKey,
  parsePushedKey,
} from "./layout.ts";

const SCAN_COUNT = 500;
/** Hashes read in one trip, and from how many fields on one is read alone: a busy merchant's identities are megabytes. */
const READ_COUNT = 50;
const LARGE_FIELDS = 1_000;

export interface WalkPosition {
  /** Names the primaries that the walk began with, by `ownersOf`. */
  readonly runs: string;
  /** Run ids of those that are done. */
  readonly walked: readonly string[];
  /** Of the one under way; `0` before it. */
  readonly cursor: string;
}

export interface StoredHash extends KeyParts {
  /** Null for what was pushed. */
  readonly stream: string | null;
  /** In µs: the store's clock at its last change. */
  readonly rev: number;
  readonly epoch: number;
  /** Its group's control in its bucket; null for what was pushed. */
  readonly control: Buffer | null;
  /** Fields and values in turn. */
  readonly items: readonly Buffer[];
  readonly takenMs: number;
  /** Of what was pushed: when the key goes; null when it stays. */
  readonly expiresMs: number | null;
}

export interface WalkStep {
  readonly hashes: readonly StoredHash[];
  /** Keys looked at for the first time in this step. */
  readonly scanned: number;
  /** Where to go on once all that came before has been dealt with; null within a page, which is begun again. */
  readonly position: WalkPosition | null;
}

/** Which hashes are wanted: those with a greater rev than this, in µs; null for none of the kind. */
export type Since = (entity: string, stream: string | null) => number | null;

interface Found extends KeyParts {
  readonly key: string;
  readonly bucket: number;
  readonly stream: string | null;
}

/** Which primaries answer, and the least of their clocks, in µs. */
export async function storeMoment(connection: ValkeyConnection): Promise<{ runs: string; clockUs: number }> {
  const nodes = await runningNodes(connection);
  const clocks = await Promise.all(nodes.map(({ node }) => node.time()));
  const micros = clocks.map(([seconds, rest]) => Number(seconds) * 1_000_000 + Number(rest));
  return { runs: await ownersOf(connection), clockUs: Math.min(...micros) };
}

/**
 * Names which primary has which bucket: another one in its place, or a bucket that has moved, is another name. A walk that saw
 * both may have missed what moved from the part that it had not seen to the one that it had.
 */
export async function ownersOf(connection: ValkeyConnection): Promise<string> {
  const owners = await Promise.all(Array.from({ length: BUCKETS }, (_, b) => connection.runId(controlKey(b))));
  return hash64(owners.join(","));
}

async function runningNodes(connection: ValkeyConnection) {
  const nodes = await Promise.all(
    (await connection.primaries()).map(async (node) => ({
      node,
      run: /run_id:([0-9a-f]{40})/.exec(await node.info("server"))?.[1] ?? "",
    })),
  );
  return nodes.sort((a, b) => (a.run < b.run ? -1 : 1));
}

/**
 * Hashes of the plan. A key may come twice; one that is written to while the walk is under way may come before or after. Of a
 * bucket that is not open nothing comes: what it holds is not all.
 * @param from null, or of a walk that other primaries answered: begins anew
 */
export async function* walkHashes(
  connection: ValkeyConnection,
  plan: Plan,
  since: Since,
  from: WalkPosition | null,
): AsyncGenerator<WalkStep> {
  const nodes = await runningNodes(connection);
  const runs = await ownersOf(connection);
  const begun = from?.runs === runs ? from : { runs, walked: [], cursor: "0" };
  const walked = [...begun.walked];
  let cursor = begun.cursor;
  for (const { node, run } of nodes) {
    if (walked.includes(run)) continue;
    do {
      const [next, keys] = await node.scanBuffer(cursor, "COUNT", SCAN_COUNT, "TYPE", "hash");
      cursor = next.toString();
      const found = keys.flatMap((key) => placeOf(plan, key));
      let scanned = found.length;
      for (const part of await changed(connection, found, since)) {
        yield { hashes: await readWhole(connection, plan, part), scanned, position: null };
        scanned = 0;
      }
      if (cursor === "0") walked.push(run);
      yield { hashes: [], scanned, position: { runs, walked: [...walked], cursor } };
    } while (cursor !== "0");
  }
}

function placeOf(plan: Plan, raw: Buffer): Found[] {
  const windowed = parseEntityKey(raw);
  const parts = windowed ?? parsePushedKey(raw);
  if (parts === null) return [];
  const { tenant, entity, id } = parts;
  const stream = windowed?.stream ?? null;
  const isKnown = windowed === null || plan.groups.some((group) => group.entity === entity && group.stream === stream);
  // Keys that are no UTF-8 are not ours.
  const key = raw.toString();
  return isKnown ? [{ key, bucket: bucketOf(tenant, entity, id), tenant, entity, id, stream }] : [];
}

/** Those with a later change, in parts that are read together. */
async function changed(connection: ValkeyConnection, found: readonly Found[], since: Since): Promise<Found[][]> {
  const wanted = found.flatMap((each) => {
    const sinceUs = since(each.entity, each.stream);
    return sinceUs === null ? [] : [{ each, sinceUs }];
  });
  const answers = await connection.demand(
    wanted.flatMap(({ each: { key, stream } }): Command[] => [
      { key, name: "HGET", args: [key, stream === null ? PUSHED_REV_FIELD : META_FIELD] },
      { key, name: "HLEN", args: [key] },
    ]),
  );
  const parts: Found[][] = [];
  let open: Found[] = [];
  wanted.forEach(({ each, sinceUs }, i) => {
    const raw = answers[2 * i] as Buffer | null;
    if (revOf(each, raw) <= sinceUs) return;
    if ((answers[2 * i + 1] as number) >= LARGE_FIELDS) {
      parts.push([each]);
      return;
    }
    if (open.push(each) < READ_COUNT) return;
    parts.push(open);
    open = [];
  });
  if (open.length > 0) parts.push(open);
  return parts;
}

/** What was pushed by releases that kept no rev is older than all that has one. Nothing is older than what is gone. */
const revOf = ({ stream }: Pick<Found, "stream">, raw: Buffer | null): number => {
  if (raw === null) return stream === null ? 1 : 0;
  return stream === null ? decodePushedRev(raw) : decodeMeta(raw).rev;
};

async function readWhole(connection: ValkeyConnection, plan: Plan, found: readonly Found[]): Promise<StoredHash[]> {
  const buckets = [...new Set(found.map(({ bucket }) => bucket))];
  const controls = buckets.map((bucket): Command => {
    const key = controlKey(bucket);
    return { key, name: "HMGET", args: [key, CONTROL_FIELD, ...plan.groups.map(({ name }) => groupField(name))] };
  });
  const [{ key: first }] = found;
  // Control before and after: hashes between two equal ones were read under it.
  const answers = await connection.run([
    { key: first, name: "TIME", args: [] },
    ...controls,
    ...found.flatMap(({ key }): Command[] => [
      { key, name: "HGETALL", args: [key] },
      { key, name: "PEXPIRETIME", args: [key] },
    ]),
    ...controls,
  ]);
  for (const answer of answers) if (answer instanceof Error) throw commandError(answer);
  const [clock] = answers as [Buffer[]];
  const takenMs = Math.floor(Number(clock[0].toString()) * 1_000 + Number(clock[1].toString()) / 1_000);
  const controlAt = (bucket: number, start: number) => answers[start + buckets.indexOf(bucket)] as (Buffer | null)[];
  return found.flatMap((each, i): StoredHash[] => {
    const { tenant, entity, id, stream } = each;
    const items = answers[1 + buckets.length + 2 * i] as Buffer[];
    const expiry = answers[2 + buckets.length + 2 * i] as number;
    const before = controlAt(each.bucket, 1);
    const after = controlAt(each.bucket, 1 + buckets.length + 2 * found.length);
    const revision = fieldOf(items, stream === null ? Buffer.from(PUSHED_REV_FIELD) : META_FIELD);
    const isGone = items.length === 0 || (revision === null && stream !== null);
    if (isGone || before[0] === null || after[0] === null) return [];
    const { epoch, state } = decodeControl(before[0]);
    const isOpen = (state === "ok" || state === "failover") && decodeControl(after[0]).epoch === epoch;
    const g = plan.groups.findIndex((group) => group.entity === entity && group.stream === stream);
    const [control, later] = stream === null ? [null, null] : [before[g + 1], after[g + 1]];
    const isSteady = stream === null || (control !== null && later !== null && sameBirths(control, later));
    if (!isOpen || !isSteady) return [];
    const rev = revOf(each, revision);
    return [{ tenant, entity, id, stream, rev, epoch, control, items, takenMs, expiresMs: expiry < 0 ? null : expiry }];
  });
}

/** The seal, before them, may move on. */
const sameBirths = (a: Buffer, b: Buffer): boolean => a.subarray(4).equals(b.subarray(4));

function fieldOf(items: readonly Buffer[], name: Buffer): Buffer | null {
  for (let i = 0; i < items.length; i += 2) if (name.equals(items[i])) return items[i + 1];
  return null;
}
