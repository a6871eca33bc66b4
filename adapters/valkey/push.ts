/** Values that are given as they are, by a batch view's run or by a caller: rows to calls of the store's function. */
import type { StoreApplier } from "./applier.ts";
import { bucketOf, pushedKey } from "./layout.ts";
import { ArgumentWriter, type EncodedArguments, encodedSize } from "./trip.ts";

/** Values of one view for one entity, true at one time. */
export interface PushRow {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
  readonly view: string;
  readonly eventTimeMs: number;
  /** The values, by `packValues`. */
  readonly packed: Buffer;
  /** For how long after its event time a value of the view is known: the key stays at least that long. */
  readonly reachMs: number;
}
interface EntityPush {
  readonly key: string;
  readonly row: PushRow;
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
 * @throws InfrastructureError when a call failed: push all of it again
 */
export async function pushRows(applier: StoreApplier, rows: readonly PushRow[]): Promise<(number | null)[]> {
  const visible: (number | null)[] = new Array(rows.length).fill(null);
  for (let from = 0; from < rows.length; from += ROWS_PER_TRIP) {
    const calls: { bucket: number; pushes: EntityPush[]; rows: number[] }[] = [];
    const open = new Map<number, (typeof calls)[number]>();
    for (let row = from; row < Math.min(rows.length, from + ROWS_PER_TRIP); row++) {
      const { tenant, entity, id } = rows[row];
      const bucket = bucketOf(tenant, entity, id);
      let call = open.get(bucket);
      if (call === undefined || call.pushes.length >= KEYS_PER_CALL) {
        call = { bucket, pushes: [], rows: [] };
        calls.push(call);
        open.set(bucket, call);
      }
      call.pushes.push({ key: pushedKey(bucket, tenant, entity, id), row: rows[row] });
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

/** Bytes of a push before its view's name: when the key may expire, the event time, the name's length. */
const HEAD = 17;

const blobSize = ({ view, packed }: PushRow): number => HEAD + Buffer.byteLength(view) + 4 + packed.length;

/** Number of keys, keys, header and blobs, as `function/09-push.lua` takes them. @param last a further argument after them */
export function encodePushCall({ pushes }: PushCall, control: string, header: Buffer, last?: string): EncodedArguments {
  const number = String(pushes.length + 1);
  let size = encodedSize(number.length) + encodedSize(Buffer.byteLength(control)) + encodedSize(header.length);
  for (const { key, row } of pushes) size += encodedSize(Buffer.byteLength(key)) + encodedSize(blobSize(row));
  if (last !== undefined) size += encodedSize(last.length);
  const writer = new ArgumentWriter(size);
  writer.text(number);
  writer.text(control);
  for (const { key } of pushes) writer.text(key);
  writer.argument(header);
  for (const { row } of pushes) {
    writer.begin(blobSize(row));
    writer.end(writeBlob(row, writer.bytes, writer.at));
  }
  if (last !== undefined) writer.text(last);
  return writer;
}

function writeBlob({ view, eventTimeMs, reachMs, packed }: PushRow, into: Buffer, start: number): number {
  into.writeDoubleLE(eventTimeMs + reachMs, start);
  into.writeDoubleLE(eventTimeMs, start + 8);
  const length = into.write(view, start + HEAD, "latin1");
  into[start + HEAD - 1] = length;
  const at = into.writeUInt32LE(packed.length, start + HEAD + length);
  return at + packed.copy(into, at);
}
