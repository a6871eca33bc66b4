/** Calls that repair: events that came below the seal are folded into what has been made of their tiles. Bytes: function/01-head.lua. */
import type { Command, ValkeyConnection } from "./connection.ts";
import { GENERATION_FIELD, REPAIRS_FIELD } from "./layout.ts";
import type { EntityUpdate } from "./record.ts";

/** What an entity's hash said before the archive was listed: a repair counts only while it says the same. */
export interface MendToken {
  readonly generation: number;
  readonly clock: number;
  /** Repaired, and maybe not in the archive yet. */
  readonly unsettled: readonly Unsettled[];
}

export interface Unsettled {
  readonly identity: string;
  /** Of the payload that was folded. */
  readonly fingerprint: number;
  readonly visibleMs: number;
}

export interface MendRecord {
  /** 16 hex digits. */
  readonly identity: string;
  readonly fingerprint: number;
  readonly update: EntityUpdate;
}

/**
 * `mended` now, or before with the payload that the fingerprint tells; `open`: the tile is not sealed; `unborn`: slots that were added
 * later wait for a build there.
 */
export type MendOutcome =
  | { readonly fate: "mended"; readonly visibleMs: number; readonly fingerprint: number | null }
  | { readonly fate: "open" | "unborn" | "erased" };

/** `raced`: somebody has put or repaired since the token was read. `held`: the store folds nothing now, or needs a newer plan's code. */
export type MendAnswer =
  | { readonly kind: "done"; readonly outcomes: readonly MendOutcome[] }
  | { readonly kind: "raced" | "held" };

/** By the code that the store answers. */
const REFUSED: Readonly<Record<number, "open" | "unborn" | "erased">> = { 2: "open", 3: "unborn", 4: "erased" };
const HEADER_BYTES = 19;
const TILE_BYTES = 10;
const FINGERPRINT_BYTES = 4;
const UNSETTLED_BYTES = 20;

/** @throws InfrastructureError when the store does not answer */
export async function readMendTokens(connection: ValkeyConnection, keys: readonly string[]): Promise<MendToken[]> {
  const answers = await connection.demand(
    keys.map((key): Command => ({ key, name: "HMGET", args: [key, GENERATION_FIELD, REPAIRS_FIELD] })),
  );
  return answers.map((answer) => {
    const [generation, repairs] = answer as (Buffer | null)[];
    const unsettled: Unsettled[] = [];
    for (let at = 8; repairs !== null && at < repairs.length; at += UNSETTLED_BYTES) {
      unsettled.push({
        identity: repairs.toString("hex", at, at + 8),
        fingerprint: repairs.readUInt32LE(at + 8),
        visibleMs: repairs.readDoubleLE(at + 12),
      });
    }
    return { generation: generation?.readDoubleLE(0) ?? 0, clock: repairs?.readDoubleLE(0) ?? 0, unsettled };
  });
}

/**
 * @param records of one entity; their outcomes come in this order when they are in that of their base tiles
 * @param settled identities that the archive holds as repaired
 */
export function encodeMend(
  groupId: number,
  token: Pick<MendToken, "generation" | "clock">,
  records: readonly MendRecord[],
  settled: readonly string[] = [],
): Buffer {
  const tiles = Map.groupBy(records, ({ update }) => update.baseIndex);
  const size = records.reduce((sum, { update }) => sum + FINGERPRINT_BYTES + update.length, 0);
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + settled.length * 8 + tiles.size * TILE_BYTES + size);
  bytes[0] = groupId;
  bytes.writeDoubleLE(token.generation, 1);
  bytes.writeDoubleLE(token.clock, 9);
  let at = bytes.writeUInt16LE(settled.length, 17);
  for (const identity of settled) at += bytes.write(identity, at, "hex");
  for (const [baseIndex, own] of tiles) {
    at = bytes.writeUInt32LE(baseIndex, at);
    at = bytes.writeUInt16LE(own.length, at);
    const start = at + 4;
    at = start;
    for (const { fingerprint, update } of own) {
      at = bytes.writeUInt32LE(fingerprint, at);
      at += update.bytes.copy(bytes, at, update.start, update.start + update.length);
    }
    bytes.writeUInt32LE(at - start, start - 4);
  }
  return bytes;
}

/** @param outcome of one key; null or empty when it had nothing but settled identities */
export function readMendAnswer(outcome: Buffer | null, nowMs: number): MendAnswer {
  if (outcome === null || outcome.length === 0) return { kind: "done", outcomes: [] };
  if (outcome[0] !== 0) return { kind: outcome[0] === 1 ? "raced" : "held" };
  const outcomes: MendOutcome[] = [];
  for (let at = 1; at < outcome.length; at++) {
    const code = outcome[at];
    if (code === 0) outcomes.push({ fate: "mended", visibleMs: nowMs, fingerprint: null });
    else if (code !== 1) outcomes.push({ fate: REFUSED[code]! });
    else {
      const fingerprint = outcome.readUInt32LE(at + 1);
      outcomes.push({ fate: "mended", visibleMs: outcome.readDoubleLE(at + 5), fingerprint });
      at += 12;
    }
  }
  return { kind: "done", outcomes };
}
