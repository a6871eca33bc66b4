// Generated from schemas/*.avsc by `freshet schemas types`; a test refuses it when it is stale.
import type { ShippedSchema } from "../adapters/avro/contract-source.ts";

/** Every schema ever shipped by contract, oldest first; the last is the one that is written. */
export const shipped: Readonly<Record<string, readonly ShippedSchema[]>> = {
  "clicks.v1": [
    {
      revision: 1,
      fingerprint: "4a1b7098bf09d7c4",
      schema: JSON.parse(
        '{"fields":[{"name":"tenant","type":"string"},{"name":"click_id","type":"string"},{"name":"event_time","type":{"logicalType":"timestamp-millis","type":"long"}},{"name":"user_id","type":"string"},{"name":"item_id","type":"string"},{"name":"action","type":"string"},{"default":null,"name":"session_id","type":["null","string"]}],"name":"Click","namespace":"freshet.v1","type":"record"}',
      ),
    },
    {
      revision: 2,
      fingerprint: "11f75b7261d9e70b",
      schema: JSON.parse(
        '{"fields":[{"name":"tenant","type":"string"},{"name":"click_id","type":"string"},{"name":"event_time","type":{"logicalType":"timestamp-millis","type":"long"}},{"name":"user_id","type":"string"},{"name":"item_id","type":"string"},{"name":"action","type":"string"},{"default":null,"name":"session_id","type":["null","string"]},{"default":null,"name":"dwell_ms","type":["null","long"]},{"default":null,"name":"position","type":["null","long"]}],"name":"Click","namespace":"freshet.v1","type":"record"}',
      ),
    },
    {
      revision: 3,
      fingerprint: "47a8d3c685db5ef4",
      schema: JSON.parse(
        '{"fields":[{"name":"tenant","type":"string"},{"name":"click_id","type":"string"},{"name":"event_time","type":{"logicalType":"timestamp-millis","type":"long"}},{"name":"user_id","type":"string"},{"name":"item_id","type":"string"},{"name":"action","type":"string"},{"default":null,"name":"session_id","type":["null","string"]},{"default":null,"name":"dwell_ms","type":["null","long"]},{"default":null,"name":"position","type":["null","long"]},{"default":null,"name":"impression_id","type":["null","string"]},{"default":null,"name":"category","type":["null","string"]}],"name":"Click","namespace":"freshet.v1","type":"record"}',
      ),
    },
  ],
  "feature_events.v1": [
    {
      revision: 1,
      fingerprint: "50b1166275e76d6a",
      schema: JSON.parse(
        '{"fields":[{"name":"tenant","type":"string"},{"name":"event_id","type":"string"},{"name":"entity_id","type":"string"},{"name":"event_type","type":"string"},{"default":null,"name":"value","type":["null","double"]},{"name":"timestamp","type":{"logicalType":"timestamp-millis","type":"long"}},{"default":{},"name":"metadata","type":{"type":"map","values":"string"}}],"name":"FeatureEvent","namespace":"freshet.v1","type":"record"}',
      ),
    },
  ],
  "labels.v1": [
    {
      revision: 1,
      fingerprint: "f3be994f7b3375dd",
      schema: JSON.parse(
        '{"fields":[{"name":"tenant","type":"string"},{"name":"label_id","type":"string"},{"name":"transaction_id","type":"string"},{"name":"event_time","type":{"logicalType":"timestamp-millis","type":"long"}},{"name":"is_fraud","type":"boolean"},{"name":"source","type":"string"},{"default":null,"name":"reason","type":["null","string"]}],"name":"Label","namespace":"freshet.v1","type":"record"}',
      ),
    },
  ],
  "transactions.v1": [
    {
      revision: 1,
      fingerprint: "c4c25e13cc56af9a",
      schema: JSON.parse(
        '{"fields":[{"name":"tenant","type":"string"},{"name":"transaction_id","type":"string"},{"name":"event_time","type":{"logicalType":"timestamp-millis","type":"long"}},{"name":"card_id","type":"string"},{"default":null,"name":"user_id","type":["null","string"]},{"name":"merchant_id","type":"string"},{"name":"amount","type":"double"},{"name":"currency","type":"string"},{"name":"country","type":"string"},{"name":"merchant_category","type":"string"},{"name":"status","type":"string"}],"name":"Transaction","namespace":"freshet.v1","type":"record"}',
      ),
    },
    {
      revision: 2,
      fingerprint: "5fa1e4143dd7156d",
      schema: JSON.parse(
        '{"fields":[{"name":"tenant","type":"string"},{"name":"transaction_id","type":"string"},{"name":"event_time","type":{"logicalType":"timestamp-millis","type":"long"}},{"name":"card_id","type":"string"},{"default":null,"name":"user_id","type":["null","string"]},{"name":"merchant_id","type":"string"},{"name":"amount","type":"double"},{"name":"currency","type":"string"},{"name":"country","type":"string"},{"name":"merchant_category","type":"string"},{"name":"status","type":"string"},{"default":null,"name":"device_id","type":["null","string"]},{"default":"unknown","name":"channel","type":"string"}],"name":"Transaction","namespace":"freshet.v1","type":"record"}',
      ),
    },
  ],
};
