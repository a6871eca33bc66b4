/** The model registry of a deployment, for commands. */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { createArtefactStore } from "../adapters/model/artefact-store.ts";
import { ModelRegistry } from "../adapters/model/model-registry.ts";
import { s3Client } from "../adapters/s3/client.ts";
import type { AuditKind } from "../functions/shared/audited.ts";
import { withRecord } from "./audited.ts";
import { openDeployment, type StageOption } from "./deployment.ts";

export interface RegistryRecord {
  readonly kind: AuditKind;
  readonly tenant: string;
  /** As `models.promote`. */
  readonly action: string;
  readonly target: string;
}

/** Works with the registry under an audit record, and ends its clients after. */
export async function withRegistry<T>(
  options: StageOption,
  { kind, ...record }: RegistryRecord,
  work: (registry: ModelRegistry) => Promise<T>,
): Promise<T> {
  const deployment = await openDeployment(options);
  const { clientConfig, modelsTable, modelsBucket } = deployment;
  const dynamodb = new DynamoDBClient(clientConfig);
  const s3 = s3Client(clientConfig);
  try {
    const artefacts = createArtefactStore({ bucket: modelsBucket, s3 });
    const registry = new ModelRegistry({ table: modelsTable, dynamodb, artefacts });
    return await withRecord(deployment, kind, record, () => work(registry));
  } finally {
    dynamodb.destroy();
    s3.destroy();
  }
}
