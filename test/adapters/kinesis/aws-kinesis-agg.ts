import { createRequire } from "node:module";

// An independent implementation of the format. Its own types import the SDK of the second version, so it is loaded bare.
const library = createRequire(import.meta.url)("aws-kinesis-agg");

export interface UserRecord {
  readonly partitionKey: string;
  readonly data: Buffer;
}

export function libraryAggregate(records: readonly UserRecord[]): Buffer {
  const aggregator = new library.RecordAggregator();
  for (const record of records) aggregator.addUserRecord({ ...record });
  return aggregator.build().data;
}

/** With its checksum verified. */
export function libraryDeaggregate(bytes: Buffer): UserRecord[] {
  const records: UserRecord[] = [];
  const record = { data: bytes.toString("base64"), partitionKey: "outer", sequenceNumber: "1" };
  library.deaggregateSync(record, true, (error: Error | null, found: { partitionKey: string; data: string }[]) => {
    if (error) throw error;
    for (const r of found) records.push({ partitionKey: r.partitionKey, data: Buffer.from(r.data, "base64") });
  });
  return records;
}
