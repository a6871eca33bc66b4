/** How what was trained becomes a version. Apart from promotion: it opens the model, which needs the runtime. */
import { FreshetError } from "../../core/errors.ts";
import { checkTenant } from "../../core/event.ts";
import type { Plan } from "../../core/plan.ts";
import { checkFeatures, vectorHash } from "../../core/scoring/vector.ts";
import { hash64 } from "../hash.ts";
import { readArtefactFolder } from "./artefact-store.ts";
import type { ModelRegistry, ModelVersion } from "./model-registry.ts";
import { openModel } from "./open.ts";

/**
 * Takes a folder that training has written into the registry, after everything that serving would ask of it.
 * @throws FreshetError `tenant_invalid`, `service_unknown`, `model_service_mismatch`, `model_tenant_mismatch`,
 *   `model_plan_mismatch`, `model_features_mismatch`, and what `openModel` throws; the registry is then as it was
 */
export async function registerModel(
  registry: ModelRegistry,
  folder: string,
  options: {
    readonly tenant: string;
    readonly service: string;
    readonly plan: Plan;
    readonly nowMs: number;
    readonly by: string;
  },
): Promise<ModelVersion> {
  const { tenant, service: name, plan, nowMs, by } = options;
  checkTenant(tenant);
  const service = plan.services.find((one) => one.name === name);
  if (service === undefined) {
    throw new FreshetError("service_unknown", `the plan has no service ${name}`, {
      field: "service",
      repair: `use one of ${plan.services.map((one) => one.name).join(", ")}`,
    });
  }
  const files = readArtefactFolder(folder);
  const model = await openModel(files);
  await model.close();
  const { manifest } = model;
  if (manifest.service !== name) {
    throw new FreshetError(
      "model_service_mismatch",
      `the model was trained for service ${manifest.service}, not ${name}`,
      {
        field: "service",
        repair: `register it with --service ${manifest.service}`,
      },
    );
  }
  // A set that was not made from an archive names no tenant: it is nobody's, and its model may be anybody's.
  const { tenant: owner = tenant } = manifest.trainingSet;
  if (owner !== tenant) {
    throw new FreshetError(
      "model_tenant_mismatch",
      `the model was trained on a training set of tenant ${owner}, not ${tenant}`,
      { field: "tenant", repair: `register it with --tenant ${owner}, or train on a set of tenant ${tenant}` },
    );
  }
  // The same features in the same order may still mean something else, as after a window's hop was changed.
  if (manifest.planHash !== plan.hash) {
    throw new FreshetError(
      "model_plan_mismatch",
      `the model was trained under plan ${manifest.planHash}, this one is ${plan.hash}`,
      {
        field: "plan_hash",
        repair:
          "build the training set and train again under this plan, or check out the one that it was trained under",
      },
    );
  }
  checkFeatures(plan, service, manifest.features);
  return registry.add({ tenant, service: name }, files, {
    manifest,
    vectorHash: vectorHash(plan, service, hash64),
    registeredMs: nowMs,
    by,
  });
}
