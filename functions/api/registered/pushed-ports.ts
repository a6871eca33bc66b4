/** What registered features need, made from the environment. */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { DURABLE_CLIENT } from "../../../adapters/aws/durable-call.ts";
import { ControlTable } from "../../../adapters/control-table/control-table.ts";
import { FeatureRegistry } from "../../../adapters/pushed/feature-registry.ts";
import { ValuesArchive } from "../../../adapters/pushed/values-archive.ts";
import { s3Client } from "../../../adapters/s3/client.ts";
import { isEpochChange, StoreApplier } from "../../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { valkeyOptionsFromEnvironment } from "../../../adapters/valkey/options.ts";
import { InfrastructureError } from "../../../core/errors.ts";
import { lock, plan } from "../../../features/plan.ts";
import { currentEpoch } from "../../shared/current-store.ts";
import { requireEnvironment } from "../../shared/environment.ts";
import { createPushStore, type PusherPorts } from "./pusher.ts";

export interface PushedPorts extends Omit<PusherPorts, "clock"> {
  readonly registry: Pick<FeatureRegistry, "load" | "register">;
  close(): Promise<void>;
}

/** @throws FreshetError `environment_missing` */
export function createPushedPorts(): PushedPorts {
  const dynamodb = new DynamoDBClient(DURABLE_CLIENT);
  // Asked on the way of a read, where an answer that is late is worth no more than what is known already.
  const impatient = { connectionTimeout: 500, requestTimeout: 1_000, throwOnRequestTimeout: true };
  const registered = new DynamoDBClient({ maxAttempts: 2, requestHandler: impatient });
  const s3 = s3Client(DURABLE_CLIENT);
  const table = new ControlTable({ table: requireEnvironment("controlTable"), dynamodb });
  const connection = new ValkeyConnection(valkeyOptionsFromEnvironment());
  return {
    registry: new FeatureRegistry({ table: requireEnvironment("featuresTable"), dynamodb: registered }),
    store: createPushStore(async () => {
      const epoch = await currentEpoch(table, lock);
      if (epoch !== null) return new StoreApplier(connection, plan, epoch);
      throw new InfrastructureError("store_not_ready", "there is no online store yet", {
        repair: "wait for the control function",
      });
    }, isEpochChange),
    archive: new ValuesArchive({ s3, bucket: requireEnvironment("archiveBucket") }),
    close: () => connection.close(),
  };
}
