/**
 * Groups the updates of many events into calls of the store's function, and writes each call's keys and arguments in the
 * protocol's form at once: an object or a buffer for each update costs more than the update does.
 */
import type { EntityUpdate, PreparedEvent } from "./record.ts";
import { ArgumentWriter, type EncodedArguments, encodedSize } from "./trip.ts";

/** Keys and records of one call: bounds the time for which the server answers nobody else to about 10 ms. */
const KEYS_PER_CALL = 100;
const RECORDS_PER_CALL = 500;
/** Bytes before the records of one base tile. */
const TILE_HEADER = 10;

/** One entity's hash in a call, with its records: those of one base tile together. */
export interface CallKey {
  readonly key: string;
  readonly groupId: number;
  /** Position of its first record in the batch, and of the last one so far; -1 for none. Others follow by `Batch.next`. */
  first: number;
  last: number;
  records: number;
  /** Of the records, without headers. */
  bytes: number;
  tiles: number;
  ordered: boolean;
}

export interface Call {
  readonly bucket: number;
  readonly keys: CallKey[];
  size: number;
}

/** Updates of a slice of events, one after another, and the calls that they make. */
export class Batch {
  readonly calls: Call[] = [];
  readonly updates: EntityUpdate[] = [];
  /** For each update the next one of the same key; -1 after the last. */
  readonly next: Int32Array;
  /** For each update its event, and its place in that event. */
  readonly event: Int32Array;
  readonly place: Int32Array;

  constructor(events: readonly PreparedEvent[], from: number, to: number) {
    let count = 0;
    for (let event = from; event < to; event++) count += events[event].updates.length;
    this.next = new Int32Array(count).fill(-1);
    this.event = new Int32Array(count);
    this.place = new Int32Array(count);
    const open = new Map<number, Call>();
    const keys = new Map<string, { call: Call; key: CallKey }>();
    for (let event = from; event < to; event++) {
      const { updates } = events[event];
      for (let place = 0; place < updates.length; place++) {
        const at = this.updates.push(updates[place]) - 1;
        this.event[at] = event;
        this.place[at] = place;
        this.add(at, open, keys);
      }
    }
  }

  private add(at: number, open: Map<number, Call>, keys: Map<string, { call: Call; key: CallKey }>): void {
    const update = this.updates[at];
    let call = open.get(update.bucket);
    if (call === undefined || call.size >= RECORDS_PER_CALL) call = this.start(update.bucket, open);
    let entry = keys.get(update.key);
    if (entry?.call !== call) {
      if (call.keys.length >= KEYS_PER_CALL) call = this.start(update.bucket, open);
      const { key, groupId } = update;
      entry = { call, key: { key, groupId, first: at, last: -1, records: 0, bytes: 0, tiles: 0, ordered: true } };
      call.keys.push(entry.key);
      keys.set(key, entry);
    }
    const { key } = entry;
    const before = key.last < 0 ? Number.NEGATIVE_INFINITY : this.updates[key.last].baseIndex;
    if (key.last >= 0) this.next[key.last] = at;
    if (update.baseIndex !== before) key.tiles++;
    if (update.baseIndex < before) key.ordered = false;
    key.last = at;
    key.records++;
    key.bytes += update.length;
    call.size++;
  }

  private start(bucket: number, open: Map<number, Call>): Call {
    const call: Call = { bucket, keys: [], size: 0 };
    this.calls.push(call);
    open.set(bucket, call);
    return call;
  }

  /**
   * Number of keys, keys, header and blobs of a call, as the store's function takes them (`function/10-calls.lua`).
   * @param last a further argument after them
   */
  encode(call: Call, control: string, header: Buffer, last?: string): EncodedArguments {
    for (const key of call.keys) if (!key.ordered) this.order(key);
    const lengths = call.keys.map(({ key }) => Buffer.byteLength(key));
    const number = String(call.keys.length + 1);
    let size = encodedSize(number.length) + encodedSize(Buffer.byteLength(control)) + encodedSize(header.length);
    call.keys.forEach((key, k) => {
      size += encodedSize(lengths[k]) + encodedSize(blobSize(key));
    });
    if (last !== undefined) size += encodedSize(last.length);
    const writer = new ArgumentWriter(size);
    writer.text(number);
    writer.text(control);
    call.keys.forEach(({ key }, k) => {
      writer.text(key, lengths[k]);
    });
    writer.begin(header.length);
    writer.bytes.set(header, writer.at);
    writer.end(writer.at + header.length);
    for (const key of call.keys) {
      writer.begin(blobSize(key));
      writer.end(this.writeBlob(key, writer.bytes, writer.at));
    }
    if (last !== undefined) writer.text(last);
    return writer;
  }

  /** Group id, then for each base tile its index, number of records and their bytes, then the records. */
  private writeBlob(key: CallKey, into: Buffer, start: number): number {
    into[start] = key.groupId;
    let at = start + 1;
    for (let u = key.records === 0 ? -1 : key.first; u >= 0; ) {
      const { baseIndex } = this.updates[u];
      const header = at;
      at += TILE_HEADER;
      let count = 0;
      for (; u >= 0 && this.updates[u].baseIndex === baseIndex; u = this.next[u], count++) {
        const { bytes, start: from, length } = this.updates[u];
        for (let i = 0; i < length; i++) into[at + i] = bytes[from + i];
        at += length;
      }
      into.writeUInt32LE(baseIndex, header);
      into.writeUInt16LE(count, header + 4);
      into.writeUInt32LE(at - header - TILE_HEADER, header + 6);
    }
    return at;
  }

  /** Puts records of one base tile together, each tile's in the order of the events. */
  private order(key: CallKey): void {
    const chain: number[] = [];
    for (let u = key.first; u >= 0; u = this.next[u]) chain.push(u);
    chain.sort((a, b) => this.updates[a].baseIndex - this.updates[b].baseIndex);
    chain.forEach((u, i) => {
      this.next[u] = chain[i + 1] ?? -1;
    });
    key.first = chain[0];
    key.last = chain[chain.length - 1];
    key.tiles = new Set(chain.map((u) => this.updates[u].baseIndex)).size;
    key.ordered = true;
  }
}

/** A call that touches keys without a record. */
export function touchCall(bucket: number, keys: readonly { key: string; groupId: number }[]): Call {
  return {
    bucket,
    keys: keys.map((key) => ({ ...key, first: -1, last: -1, records: 0, bytes: 0, tiles: 0, ordered: true })),
    size: 0,
  };
}

const blobSize = ({ bytes, tiles }: CallKey): number => 1 + bytes + tiles * TILE_HEADER;
