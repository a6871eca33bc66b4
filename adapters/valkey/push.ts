/** Values that are given as they are, by a batch view's run or by a caller: rows to calls of the store's function. */
import type { StoreApplier } from "./applier.ts";
import { bucketOf, pushedKey } from "./layout.ts";
import { type PushedValue, packValues } from "./packed.ts";
import { type EncodedArguments, encodeArguments } from "./trip.ts";

/** Values of one view for one entity, true at one time. */
export interface PushRow {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
  readonly view: string;
  readonly eventTimeMs: number;
  readonly values: readonly PushedValue[];
  /** For how long after its event time a value of the view is known: the key stays at least that long. */
  readonly reachMs: number;
}
interface EntityPush {
  readonly key: string;
  readonly blob: Buffer;
}
export interface PushCall {
  readonly bucket: number;
  readonly pushes: readonly EntityPush[];
}

/** Bounds the time for which the server answers nobody else. */
const KEYS_PER_CALL = 100;
const ROWS_PER_TRIP = 4_000;

/**
 * Pushes rows. The newest value of each feature wins, whatever the order; pushing again changes nothing.
 * @returns for each row when it became visible, by the store's clock; null for one that is more than 60 s ahead of it
 * @throws RecordError of a value that is none; InfrastructureError when a call failed: push all of it again
 */
export async function pushRows(applier: StoreApplier, rows: readonly PushRow[]): Promise<(number | null)[]> {
  const visible: (number | null)[] = new Array(rows.length).fill(null);
  const packed = rows.map(encodeRow);
  for (let from = 0; from < rows.length; from += ROWS_PER_TRIP) {
    const calls: { bucket: number; pushes: EntityPush[]; rows: number[] }[] = [];
    const open = new Map<number, (typeof calls)[number]>();
    for (let row = from; row < Math.min(rows.length, from + ROWS_PER_TRIP); row++) {
      const { bucket, push } = packed[row];
      let call = open.get(bucket);
      if (call === undefined || call.pushes.length >= KEYS_PER_CALL) {
        call = { bucket, pushes: [], rows: [] };
        calls.push(call);
        open.set(bucket, call);
      }
      call.pushes.push(push);
      call.rows.push(row);
    }
    const answers = await applier.push(calls);
    calls.forEach((call, c) => {
      call.rows.forEach((row, k) => {
        visible[row] = answers[c][k];
      });
    });
  }
  return visible;
}

function encodeRow({ tenant, entity, id, view, eventTimeMs, values, reachMs }: PushRow) {
  const bucket = bucketOf(tenant, entity, id);
  const packed = packValues(values, eventTimeMs);
  const head = Buffer.alloc(17);
  head.writeDoubleLE(eventTimeMs + reachMs, 0);
  head.writeDoubleLE(eventTimeMs, 8);
  head[16] = Buffer.byteLength(view);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(packed.length);
  const blob = Buffer.concat([head, Buffer.from(view), length, packed]);
  return { bucket, push: { key: pushedKey(bucket, tenant, entity, id), blob } };
}

export function encodePushCall({ pushes }: PushCall, control: string, header: Buffer, last?: string): EncodedArguments {
  const keys = pushes.map(({ key }) => key);
  const args = [pushes.length + 1, control, ...keys, header, ...pushes.map(({ blob }) => blob)];
  return encodeArguments(last === undefined ? args : [...args, last]);
}
