/** The model registry of a deployment, for commands. */
import { userInfo } from "node:os";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { S3Client } from "@aws-sdk/client-s3";
import { createArtefactStore } from "../adapters/model/artefact-store.ts";
import { ModelRegistry } from "../adapters/model-registry.ts";
import { openDeployment, type StageOption } from "./deployment.ts";

/** Works with the registry, and ends its clients after. */
export async function withRegistry<T>(options: StageOption, work: (registry: ModelRegistry) => Promise<T>): Promise<T> {
  const { clientConfig, modelsTable, modelsBucket } = await openDeployment(options);
  const dynamodb = new DynamoDBClient(clientConfig);
  const s3 = new S3Client({ ...clientConfig, forcePathStyle: "endpoint" in clientConfig });
  try {
    const artefacts = createArtefactStore({ bucket: modelsBucket, s3 });
    return await work(new ModelRegistry({ table: modelsTable, dynamodb, artefacts }));
  } finally {
    dynamodb.destroy();
    s3.destroy();
  }
}

/** Who is named in the registry's history. */
export const operator = (): string => `${userInfo().username} (freshet)`;
