/** The bad-input list of `POST /v1/events/{stream}`. */
import { EventCodec } from "../../../../adapters/avro/event-codec.ts";
import { type BadInput, transaction, without } from "./contract-calls.ts";

const events = "/v1/events/transactions";
const avro = { "content-type": "application/vnd.freshet.avro" };
/** One transaction in single-object encoding, its tenant to be filled from the key. */
export const encoded = (more: Record<string, unknown> = {}) =>
  Buffer.from(EventCodec.for("transactions.v1").encode(transaction({ tenant: "", ...more }) as any));

/** An encoder may refuse what a producer can still write: the double 12.5 is overwritten on the wire. */
const encodedAmount = (amount: number): Buffer => {
  const bytes = encoded();
  const place = Buffer.alloc(8);
  place.writeDoubleLE(12.5);
  bytes.writeDoubleLE(amount, bytes.indexOf(place));
  return bytes;
};

/** event_time as a long of 60 bits, which no double holds: the zigzag varint of the time is replaced. */
const encodedHugeTime = (): Buffer => {
  const time = Date.now();
  const bytes = encoded({ event_time: time });
  const varint = (value: bigint) => {
    const out: number[] = [];
    for (let rest = value << 1n; ; rest >>= 7n) {
      if (rest < 128n) return Buffer.from([...out, Number(rest)]);
      out.push(Number(rest & 127n) | 128);
    }
  };
  const old = varint(BigInt(time));
  const at = bytes.indexOf(old);
  return Buffer.concat([bytes.subarray(0, at), varint(2n ** 60n + 1n), bytes.subarray(at + old.length)]);
};

/** A branch of user_id's union that does not exist, behind card_id. */
const encodedWrongBranch = (): Buffer => {
  const bytes = encoded({ card_id: "card-before-user" });
  bytes[bytes.indexOf("card-before-user") + "card-before-user".length] = 0x08;
  return bytes;
};

export const badEvents: readonly BadInput[] = [
  {
    name: "malformed JSON",
    path: events,
    options: { body: '{"amount": 1,' },
    status: 400,
    code: "malformed_json",
    detail: "cannot be parsed",
    repair: "check quotes",
  },
  {
    name: "a stream beside events",
    path: events,
    options: { body: { events: [transaction()], stream: "clicks" } },
    status: 400,
    code: "field_unknown",
    field: "stream",
    detail: 'a list of events has no field "stream"',
    repair: "use one of events",
  },
  {
    name: "a number as the body of events",
    path: events,
    options: { body: "5" },
    status: 400,
    code: "body_shape",
    detail: "one event, an array of events",
    repair: "send an object",
  },
  {
    name: "an event that is no object",
    path: events,
    options: { body: [5] },
    status: 400,
    code: "record_shape",
    detail: "given a number",
    repair: "contract's fields",
  },
  {
    name: "no event at all",
    path: events,
    options: { body: [] },
    status: 400,
    code: "body_empty",
    detail: "no event",
    repair: "1 to 500",
  },
  {
    name: "an event field of the wrong type",
    path: events,
    options: () => ({ body: transaction({ amount: "12" }) }),
    status: 400,
    code: "wrong_type",
    field: "amount",
    detail: "must be a number, got string",
    repair: "send amount as a number",
  },
  {
    name: "an event without a required field",
    path: events,
    options: () => ({ body: without(transaction(), "merchant_id") }),
    status: 400,
    code: "field_missing",
    field: "merchant_id",
    detail: "merchant_id of transactions.v1 must be given",
    repair: "send merchant_id as a string",
  },
  {
    name: "an event without its key field",
    path: events,
    options: () => ({ body: without(transaction(), "card_id") }),
    status: 400,
    code: "field_missing",
    field: "card_id",
    detail: "card_id of transactions.v1 must be given",
    repair: "send card_id as a string",
  },
  {
    name: "an event with an empty key",
    path: events,
    options: () => ({ body: transaction({ card_id: "" }) }),
    status: 400,
    code: "partition_key_missing",
    field: "card_id",
    detail: "empty string",
    repair: "send card_id",
  },
  {
    name: "an event without an id",
    path: events,
    options: () => ({ body: transaction({ transaction_id: "" }) }),
    status: 400,
    code: "event_id_missing",
    field: "transaction_id",
    detail: "empty string",
    repair: "send transaction_id",
  },
  {
    name: "an event with too long a key",
    path: events,
    options: () => ({ body: transaction({ card_id: "c".repeat(257) }) }),
    status: 400,
    code: "key_too_long",
    field: "card_id",
    detail: "at most 256 characters, given 257",
    repair: "shorter id",
  },
  {
    name: "a text that a last feature would copy into every tile",
    path: events,
    options: () => ({ body: transaction({ country: "x".repeat(1025) }) }),
    status: 400,
    code: "value_too_long",
    field: "country",
    detail: "at most 1024 characters",
    repair: "shorter text",
  },
  {
    name: "a field that the contract lacks",
    path: events,
    options: () => ({ body: transaction({ amuont: 1 }) }),
    status: 400,
    code: "field_unknown",
    field: "amuont",
    detail: 'transactions.v1 has no field "amuont"',
    repair: "leave it out",
  },
  {
    name: "a lone surrogate",
    path: events,
    options: () => ({ body: JSON.stringify(transaction({ card_id: "X" })).replace('"X"', '"\\ud800"') }),
    status: 400,
    code: "text_invalid",
    field: "card_id",
    detail: "not valid Unicode",
    repair: "UTF-8",
  },
  {
    name: "NaN in JSON",
    path: events,
    options: () => ({ body: JSON.stringify(transaction()).replace("12.5", "NaN") }),
    status: 400,
    code: "number_not_finite",
    detail: "JSON has no NaN (line 1, column",
    repair: "null",
  },
  {
    name: "-Infinity in JSON",
    path: events,
    options: () => ({ body: JSON.stringify(transaction()).replace("12.5", "-Infinity") }),
    status: 400,
    code: "number_not_finite",
    detail: "JSON has no Infinity",
    repair: "null",
  },
  {
    name: "a JSON number beyond a double",
    path: events,
    options: () => ({ body: JSON.stringify(transaction()).replace("12.5", "1e999") }),
    status: 400,
    code: "number_not_finite",
    field: "amount",
    detail: "too large for a double",
    repair: "a finite number",
  },
  {
    name: "NaN in Avro",
    path: events,
    options: () => ({ body: encodedAmount(Number.NaN), headers: avro }),
    status: 400,
    code: "number_not_finite",
    field: "amount",
    detail: "amount is a finite number, given NaN",
    repair: "null",
  },
  {
    name: "Infinity in Avro",
    path: events,
    options: () => ({ body: encodedAmount(Number.POSITIVE_INFINITY), headers: avro }),
    status: 400,
    code: "number_not_finite",
    field: "amount",
    detail: "given Infinity",
    repair: "null",
  },
  {
    name: "too large a number",
    path: events,
    options: () => ({ body: transaction({ amount: 2 ** 43 / 100 }) }),
    status: 400,
    code: "number_too_large",
    field: "amount",
    detail: "must be below 87,960,930,222.08",
    repair: "smaller",
  },
  {
    name: "an event from the future",
    path: events,
    options: () => ({ body: transaction({ event_time: Date.now() + 120_000 }) }),
    status: 400,
    code: "event_time_future",
    field: "event_time",
    detail: "the limit is 60000 ms",
    repair: "clock",
  },
  {
    name: "an event time in seconds",
    path: events,
    options: () => ({ body: transaction({ event_time: Math.floor(Date.now() / 1000) }) }),
    status: 400,
    code: "event_time_invalid",
    field: "event_time",
    detail: "before the year 2000",
    repair: "milliseconds since 1970, not seconds",
  },
  {
    name: "an event of another tenant",
    path: events,
    options: () => ({ body: transaction({ tenant: "somebody-else" }) }),
    status: 400,
    code: "tenant_mismatch",
    field: "tenant",
    detail: "another tenant",
    repair: "leave tenant out",
  },
  {
    name: "an Avro event of another tenant",
    path: events,
    options: () => ({ body: encoded({ tenant: "somebody-else" }), headers: avro }),
    status: 400,
    code: "tenant_mismatch",
    field: "tenant",
    detail: "another tenant",
    repair: "leave tenant out",
  },
  {
    name: "too many records",
    path: events,
    options: { body: Array.from({ length: 501 }, () => ({})) },
    status: 400,
    code: "too_many_records",
    detail: "at most 500 events, given 501",
    repair: "several requests",
  },
  {
    name: "an unknown schema fingerprint",
    path: events,
    options: () => ({
      body: Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.alloc(8, 7), encoded().subarray(10)]),
      headers: avro,
    }),
    status: 400,
    code: "schema_unknown",
    detail: "fingerprint 0707070707070707",
    repair: "the version that knows the schema",
  },
  {
    name: "truncated Avro",
    path: events,
    options: () => ({ body: encoded().subarray(0, -3), headers: avro }),
    status: 400,
    code: "avro_truncated",
    detail: "in the middle of a field",
    repair: "send the whole",
  },
  {
    name: "Avro that does not fit its schema",
    path: events,
    options: () => ({ body: encodedWrongBranch(), headers: avro }),
    status: 400,
    code: "avro_invalid",
    detail: "schema",
    repair: "fingerprint",
  },
  {
    name: "Avro with bytes behind it",
    path: events,
    options: () => ({ body: Buffer.concat([encoded(), Buffer.from([1])]), headers: avro }),
    status: 400,
    code: "avro_trailing",
    detail: "1 bytes follow the end",
    repair: "one event in each record",
  },
  {
    name: "bytes that are no Avro",
    path: events,
    options: { body: Buffer.from("hello"), headers: avro },
    status: 400,
    code: "not_single_object",
    detail: "starts with c301",
    repair: "single-object encoding",
  },
  {
    name: "an Avro integer beyond 2^53",
    path: events,
    options: () => ({ body: encodedHugeTime(), headers: avro }),
    status: 400,
    code: "precision_loss",
    detail: "53",
    repair: "as strings",
  },
  {
    name: "a damaged KPL aggregate",
    path: events,
    options: { body: Buffer.concat([Buffer.from("f3899ac2", "hex"), Buffer.alloc(40, 1)]), headers: avro },
    status: 400,
    code: "aggregate_invalid",
    detail: "checksum",
    repair: "again",
  },
  {
    name: "an event above the size of a broker record",
    path: events,
    options: () => ({ body: transaction({ merchant_category: "x".repeat(1024 * 1024) }) }),
    status: 400,
    code: "record_too_large",
    detail: "at most 1048064 bytes",
    repair: "send a reference",
  },
  {
    name: "an empty Avro body",
    path: events,
    options: { body: Buffer.alloc(0), method: "POST", headers: avro },
    status: 400,
    code: "body_empty",
    detail: "empty",
    repair: "send a body",
  },
  {
    name: "an unsupported content type of events",
    path: events,
    options: { body: "<a/>", headers: { "content-type": "text/xml" } },
    status: 415,
    code: "content_type_unsupported",
    field: "content-type",
    detail: "given text/xml",
    repair: "application/json",
  },
  {
    name: "an unknown stream",
    path: "/v1/events/transaction",
    options: () => ({ body: transaction() }),
    status: 404,
    code: "stream_unknown",
    field: "stream",
    detail: 'no stream is named "transaction"',
    repair: "did you mean transactions?",
  },
];
