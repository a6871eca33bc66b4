/** What is read of a fetch, by its documented layout (Kafka protocol, record batches), without a broker. */
import { expect, test } from "vitest";
import { recordsOf } from "../../../adapters/kafka/records.ts";

const [LOG_APPEND_TIME, TRANSACTIONAL, CONTROL] = [8, 16, 32];
const ARRIVED = 1_794_000_000_123n;
/** Of `values` by offset delta; a producer's clock says 1970. */
function batch(firstOffset: bigint, values: Readonly<Record<number, string | null>>, over: object = {}): any {
  const deltas = Object.keys(values).map(Number);
  return {
    ...{ firstOffset, lastOffsetDelta: Math.max(...deltas), attributes: LOG_APPEND_TIME, producerId: -1n },
    ...{ firstTimestamp: 1_000n, maxTimestamp: ARRIVED },
    records: deltas.map((offsetDelta) => ({
      ...{ offsetDelta, timestampDelta: BigInt(offsetDelta), key: null, headers: [] },
      value: values[offsetDelta] === null ? null : Buffer.from(values[offsetDelta]!),
    })),
    ...over,
  };
}
const marker = (offset: bigint, producerId: bigint, type: number): any =>
  batch(
    offset,
    { 0: "" },
    { producerId, attributes: CONTROL | TRANSACTIONAL, records: [{ key: Buffer.from([0, 0, 0, type]) }] },
  );
const inTransaction = (producerId: bigint) => ({ producerId, attributes: TRANSACTIONAL | LOG_APPEND_TIME });
const read = (records: any[] | null, abortedTransactions: any = null, from = 0n) => {
  const { records: found, next } = recordsOf({ records, abortedTransactions }, from);
  return { found: found.map(({ offset, value }) => `${offset}:${value ?? "null"}`), next };
};
const [COMMITTED, ABORTED] = [1, 0];

test("a record has the time at which the broker took its batch, where the topic says so, whatever its producer claims", () => {
  const [own] = recordsOf({ records: [batch(5n, { 0: "a" })], abortedTransactions: null }, 0n).records;
  expect(own).toMatchObject({ offset: 5n, timestampMs: Number(ARRIVED), timestampType: "LOG_APPEND_TIME" });
});

test("else its producer's, and that is told", () => {
  const given = [batch(5n, { 0: "a", 3: "b" }, { attributes: 0 })];
  const { records } = recordsOf({ records: given, abortedTransactions: null }, 0n);
  expect(records).toMatchObject([
    { offset: 5n, timestampMs: 1_000, timestampType: "CREATE_TIME" },
    { offset: 8n, timestampMs: 1_003, timestampType: "CREATE_TIME" },
  ]);
});

test("a batch is fetched whole: what lies before the position is not read again, and the next one is behind all of it", () => {
  expect(read([batch(10n, { 0: "a", 2: "b", 7: "c" })], null, 12n)).toEqual({ found: ["12:b", "17:c"], next: 18n });
  expect(read([batch(10n, { 0: null })])).toEqual({ found: ["10:null"], next: 11n });
  expect(read([])).toEqual({ found: [], next: null });
  expect(read(null)).toEqual({ found: [], next: null });
});

test("what was aborted is left out, and what the same producer commits later is not", () => {
  const fetched = [
    batch(0n, { 0: "aborted" }, inTransaction(7n)),
    batch(1n, { 0: "kept" }, inTransaction(9n)),
    batch(2n, { 0: "plain" }),
    marker(3n, 7n, ABORTED),
    batch(4n, { 0: "again" }, inTransaction(7n)),
    marker(5n, 9n, COMMITTED),
    marker(6n, 7n, COMMITTED),
  ];
  const aborted = [{ producerId: 7n, firstOffset: 0n }];
  expect(read(fetched, aborted)).toEqual({ found: ["1:kept", "2:plain", "4:again"], next: 7n });
});

test("a transaction whose end lies in another fetch is left out all the same", () => {
  const open = [{ producerId: 7n, firstOffset: 0n }];
  expect(read([batch(3n, { 0: "aborted" }, inTransaction(7n))], open)).toEqual({ found: [], next: 4n });
  const later = [{ producerId: 7n, firstOffset: 9n }, ...open];
  const fetched = [marker(4n, 7n, ABORTED), batch(5n, { 0: "kept" }, inTransaction(7n)), marker(6n, 7n, COMMITTED)];
  expect(read(fetched, later)).toEqual({ found: ["5:kept"], next: 7n });
});
