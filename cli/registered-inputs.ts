/** What a tenant has registered of a service's features, as the operator's commands look it up. */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { FeatureRegistry } from "../adapters/pushed/feature-registry.ts";
import type { Service } from "../core/plan.ts";
import type { PushedFeature } from "../core/pushed-feature.ts";
import { inputsOf } from "../core/registered-feature.ts";
import type { OperatedDeployment } from "./deployment.ts";

/**
 * @returns by their names in the service; undefined for a service that takes none
 * @throws InfrastructureError `catalogue_unavailable`
 */
export async function registeredInputs(
  { clientConfig, featuresTable }: Pick<OperatedDeployment, "clientConfig" | "featuresTable">,
  service: Service,
  tenant: string,
): Promise<ReadonlyMap<string, PushedFeature> | undefined> {
  if (service.registered === undefined) return undefined;
  const dynamodb = new DynamoDBClient(clientConfig);
  try {
    const known = await new FeatureRegistry({ table: featuresTable, dynamodb }).load(tenant, null);
    return inputsOf(service, known?.features ?? []);
  } finally {
    dynamodb.destroy();
  }
}
