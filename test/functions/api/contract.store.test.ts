/** The contract suite against the plain server on a real Valkey; the broker is a function that applies what it is given. */
import { afterAll, beforeAll } from "vitest";
import type { Publisher } from "../../../adapters/kinesis-publisher.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { checkEvent } from "../../../core/event.ts";
import { createKey, type Scope } from "../../../functions/api/keys.ts";
import { listen, type RunningServer } from "../../../functions/api/server.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";
import { describeErrors } from "./contract.ts";
import type { ContractTarget } from "./contract-calls.ts";
import { describeFlow } from "./contract-flow.ts";
import { describeRank } from "./contract-rank.ts";
import { plan, testDependencies } from "./doubles.ts";

let valkey: TestValkey;
let store: TestStore;
let server: RunningServer;
const keys = { first: "", second: "", readOnly: "", expired: "" };
const target: ContractTarget = { baseUrl: () => server.url, keys: () => keys, plan, exactBytes: true };

/** What the aggregate function does with a batch, without what it does for faults. */
function applyingPublisher(codecs: (contract: string) => { decode(bytes: Buffer): { fields: any } }): Publisher {
  const packers = new Map(plan.streams.map(({ name }) => [name, new RecordPacker(plan, name)]));
  return {
    async publish(name, records) {
      const stream = plan.streams.find((one) => one.name === name)!;
      const events = records.map(({ data }) => {
        const { fields } = codecs(stream.contract).decode(Buffer.from(data));
        const { tenant, eventId, eventTimeMs } = checkEvent(stream, fields, Date.now());
        return packers.get(name)!.prepare(tenant, eventId, eventTimeMs, fields);
      });
      await store.applier.apply(events);
      return records.map(() => "queued");
    },
  };
}

beforeAll(async () => {
  valkey = await startValkey();
  // As in life, where the seal follows the clock: all that lies above it is read tile by tile.
  store = await openStore(plan, valkey, Math.floor(Date.now() / 60_000) * 60_000 - 15 * 60_000);
  const { dependencies, keys: table } = testDependencies();
  const make = async (tenant: string, scopes: Scope[], expiresAtMs?: number) =>
    (await createKey(table, { tenant, scopes, nowMs: 0, expiresAtMs })).key;
  keys.first = await make("team-a", ["read", "write", "score"]);
  keys.second = await make("team-b", ["read", "write", "score"]);
  keys.readOnly = await make("team-a", ["read"]);
  keys.expired = await make("team-a", ["read", "write", "score"], 1);
  server = await listen({
    port: 0,
    dependencies: {
      ...dependencies,
      reader: createReader(plan, valkey),
      ingest: { ...dependencies.ingest!, publisher: applyingPublisher(dependencies.ingest!.codecs) },
    },
  });
});
afterAll(async () => {
  await server?.close();
  await store?.connection.close();
  await valkey?.stop();
});

describeErrors(target);
describeFlow(target);
describeRank(target);
