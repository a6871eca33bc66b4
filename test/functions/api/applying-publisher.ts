/** A broker whose records are applied before they are acknowledged. */
import type { Publisher } from "../../../adapters/broker/broker.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { checkEvent } from "../../../core/event.ts";
import type { TestStore } from "../../support/store.ts";
import { plan } from "./doubles.ts";

/** What the aggregate function does with a batch, without what it does for faults. */
export function applyingPublisher(
  store: () => TestStore,
  codecs: (contract: string) => { decode(bytes: Buffer): { fields: any } },
): Publisher {
  const packers = new Map(plan.streams.map(({ name }) => [name, new RecordPacker(plan, name)]));
  return {
    async publish(name, records) {
      const stream = plan.streams.find((one) => one.name === name)!;
      const events = records.map(({ data }) => {
        const { fields } = codecs(stream.contract).decode(Buffer.from(data));
        const { tenant, eventId, eventTimeMs } = checkEvent(stream, fields, Date.now());
        return packers.get(name)!.prepare(tenant, eventId, eventTimeMs, fields);
      });
      await store().applier.apply(events);
      return records.map(() => "queued");
    },
  };
}
