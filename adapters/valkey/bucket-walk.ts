/** Whole hashes by bucket, as bulk snapshots keep them: which keys a bucket has, how new they are, and all of their fields. */
import { type Command, commandError, type ValkeyConnection } from "./connection.ts";
import { decodeMeta, decodePushedRev, META_FIELD, PUSHED_REV_FIELD, parseEntityKey, parsePushedKey } from "./layout.ts";

const SCAN_COUNT = 1_000;
/** Hashes asked about in one trip, and fields read in one: a busy merchant's identities are megabytes. */
const ASK_COUNT = 500;
const READ_FIELDS = 4_000;

export interface KnownHash {
  readonly key: string;
  /** In µs, the store's clock at its last change; null for what was pushed by a release that kept none. */
  readonly rev: number | null;
  readonly fields: number;
}

export interface WholeHash {
  readonly key: string;
  readonly rev: number | null;
  /** Epoch milliseconds; null for a key that stays. */
  readonly expiresMs: number | null;
  /** Fields and values in turn. */
  readonly items: readonly Buffer[];
}

/** How many keys the store has, of all kinds. */
export async function keyCount(connection: ValkeyConnection): Promise<number> {
  const counts = await Promise.all((await connection.primaries()).map((node) => node.dbsize()));
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Keys of entities in buckets from `from` up to `to`, each once: windowed ones and what was pushed. */
export async function keysByBucket(
  connection: ValkeyConnection,
  from: number,
  to: number,
): Promise<Map<number, ReadonlySet<string>>> {
  const found = new Map<number, Set<string>>();
  for (const node of await connection.primaries()) {
    let cursor = "0";
    do {
      const [next, keys] = await node.scanBuffer(cursor, "COUNT", SCAN_COUNT, "TYPE", "hash");
      cursor = next.toString();
      for (const raw of keys) {
        const bucket = bucketOfKey(raw);
        if (bucket === null || bucket < from || bucket >= to) continue;
        const own = found.get(bucket) ?? new Set();
        found.set(bucket, own.add(raw.toString()));
      }
    } while (cursor !== "0");
  }
  return found;
}

/** Of an entity's key, windowed or pushed; null for another key. */
function bucketOfKey(raw: Buffer): number | null {
  if (parseEntityKey(raw) === null && parsePushedKey(raw) === null) return null;
  const bucket = Number(raw.toString("latin1", 1, raw.indexOf(0x7d)));
  return Number.isInteger(bucket) ? bucket : null;
}

const isPushed = (key: string): boolean => parsePushedKey(Buffer.from(key)) !== null;

/** Those of the keys that are there. */
export async function knownHashes(connection: ValkeyConnection, keys: readonly string[]): Promise<KnownHash[]> {
  const known: KnownHash[] = [];
  for (let at = 0; at < keys.length; at += ASK_COUNT) {
    const part = keys.slice(at, at + ASK_COUNT);
    const answers = await connection.demand(
      part.flatMap((key): Command[] => [
        { key, name: "HGET", args: [key, isPushed(key) ? PUSHED_REV_FIELD : META_FIELD] },
        { key, name: "HLEN", args: [key] },
      ]),
    );
    part.forEach((key, i) => {
      const fields = answers[2 * i + 1] as number;
      if (fields > 0) known.push({ key, rev: revOf(key, answers[2 * i] as Buffer | null), fields });
    });
  }
  return known;
}

function revOf(key: string, raw: Buffer | null): number | null {
  if (raw === null) return null;
  return isPushed(key) ? decodePushedRev(raw) : decodeMeta(raw).rev;
}

/** Each whole, in one call; what has gone meanwhile is left out. */
export async function* readHashes(
  connection: ValkeyConnection,
  wanted: readonly KnownHash[],
): AsyncGenerator<WholeHash[]> {
  for (let at = 0; at < wanted.length; ) {
    let fields = 0;
    const part: KnownHash[] = [];
    do {
      part.push(wanted[at]);
      fields += wanted[at++].fields;
    } while (at < wanted.length && part.length < ASK_COUNT && fields + wanted[at].fields <= READ_FIELDS);
    const answers = await connection.run(
      part.flatMap(({ key }): Command[] => [
        { key, name: "HGETALL", args: [key] },
        { key, name: "PEXPIRETIME", args: [key] },
      ]),
    );
    for (const answer of answers) if (answer instanceof Error) throw commandError(answer);
    yield part.flatMap(({ key }, i): WholeHash[] => {
      const items = answers[2 * i] as Buffer[];
      const expiry = answers[2 * i + 1] as number;
      if (items.length === 0) return [];
      const name = Buffer.from(isPushed(key) ? PUSHED_REV_FIELD : META_FIELD);
      const place = items.findIndex((item, f) => f % 2 === 0 && name.equals(item));
      return [
        { key, rev: place < 0 ? null : revOf(key, items[place + 1]), expiresMs: expiry < 0 ? null : expiry, items },
      ];
    });
  }
}
