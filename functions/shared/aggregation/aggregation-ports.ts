/** What applying events needs, made from the environment: for the aggregate function, and for the one that delivers again. */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { S3Client } from "@aws-sdk/client-s3";
import { ArchiveWriter } from "../../../adapters/archive/archive.ts";
import { DURABLE_CLIENT } from "../../../adapters/aws/durable-call.ts";
import { ControlTable } from "../../../adapters/control-table/control-table.ts";
import { LateQueue } from "../../../adapters/late-queue/late-queue.ts";
import { STORE_STATES } from "../../../adapters/online-store/store-states.ts";
import { QuarantineWriter } from "../../../adapters/quarantine/quarantine.ts";
import { s3Client } from "../../../adapters/s3/client.ts";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { valkeyOptionsFromEnvironment } from "../../../adapters/valkey/options.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { refusedBy } from "../../../adapters/valkey/replies.ts";
import { Watermark } from "../../../adapters/valkey/watermark.ts";
import type { Stream } from "../../../core/plan.ts";
import { lock, plan } from "../../../features/plan.ts";
import { currentEpoch } from "../current-store.ts";
import { requireEnvironment } from "../environment.ts";
import { eventReaders } from "../schema-registry.ts";
import type { AggregationPorts } from "./aggregation.ts";

export interface AggregationClients {
  readonly connection: ValkeyConnection;
  readonly s3: S3Client;
  readonly dynamodb: DynamoDBClient;
  readonly controlTable: ControlTable;
  /** @param replaying into a store that nobody else may write to while it is restored */
  readonly applier: (replaying: boolean) => Promise<StoreApplier>;
  readonly portsFor: (stream: Stream, applier: StoreApplier) => AggregationPorts;
}

/** @throws FreshetError `environment_missing` */
export function aggregationClients(): AggregationClients {
  const s3 = s3Client(DURABLE_CLIENT);
  const dynamodb = new DynamoDBClient(DURABLE_CLIENT);
  // A trip takes 100 ms; a store that is busy with others may take long, and giving up only repeats the work.
  const connection = new ValkeyConnection({ ...valkeyOptionsFromEnvironment(), timeoutMs: 15_000 });
  const controlTable = new ControlTable({ table: requireEnvironment("controlTable"), dynamodb });
  const watermark = new Watermark(connection);
  const archive = new ArchiveWriter({ bucket: requireEnvironment("archiveBucket"), s3 });
  const readerOf = eventReaders({ bucket: requireEnvironment("archiveBucket"), s3 });
  const quarantine = new QuarantineWriter({
    bucket: requireEnvironment("quarantineBucket"),
    table: requireEnvironment("quarantineTable"),
    s3,
    dynamodb,
  });
  const late = new LateQueue({ table: requireEnvironment("lateTable"), dynamodb });
  const packers = new Map<string, RecordPacker>();
  return {
    ...{ connection, s3, dynamodb, controlTable },
    /** @throws InfrastructureError `store_not_ready` before the control function ran; DefinitionError `plan_lock_contradicts` */
    async applier(replaying) {
      const epoch = await currentEpoch(controlTable, lock);
      if (epoch === null) throw refusedBy(STORE_STATES.new);
      return new StoreApplier(connection, plan, epoch, { replaying });
    },
    portsFor(stream, applier) {
      let packer = packers.get(stream.name);
      if (!packer) {
        packer = new RecordPacker(plan, stream.name);
        packers.set(stream.name, packer);
      }
      const codec = readerOf(stream.contract);
      return { plan, stream, codec, packer, applier, watermark, archive, quarantine, late };
    },
  };
}
