/**
 * Packs events into KPL-aggregated records: magic F3 89 9A C2, protobuf AggregatedRecord { partition_key_table = 1,
 * records = 3 { partition_key_index = 1, data = 3 } }, MD5. Source: awslabs/amazon-kinesis-producer, aggregation-format.md.
 */
import { createHash } from "node:crypto";

const MAGIC = Buffer.from([0xf3, 0x89, 0x9a, 0xc2]);
/** One key for the whole record: which shard an event takes is of no consequence to the store. */
const KEY = Buffer.from("a");

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) + 128);
  }
}

export function packRecords(events: readonly Buffer[]): Buffer {
  const parts: Buffer[] = [MAGIC, Buffer.from([0x0a, KEY.length]), KEY];
  for (const data of events) {
    const length = varint(data.length);
    // Field 1, index 0; field 3, the data.
    const inner = 2 + 1 + length.length + data.length;
    parts.push(Buffer.from([0x1a, ...varint(inner), 0x08, 0x00, 0x1a, ...length]), data);
  }
  const body = Buffer.concat(parts);
  return Buffer.concat([body, createHash("md5").update(body.subarray(4)).digest()]);
}

/** Events cut into aggregated records of at most `maxBytes`, or one event where one alone is larger. */
export function packAll(events: readonly Buffer[], maxBytes = 48 * 1024): Buffer[] {
  const records: Buffer[] = [];
  let open: Buffer[] = [];
  let size = 0;
  for (const event of events) {
    if (size + event.length > maxBytes && open.length > 0) {
      records.push(packRecords(open));
      open = [];
      size = 0;
    }
    open.push(event);
    size += event.length + 10;
  }
  if (open.length > 0) records.push(packRecords(open));
  return records;
}
