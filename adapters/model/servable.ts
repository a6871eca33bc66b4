/** What a registered version has to stand before it scores: asked when an alias is given, and again by each process that loads it. */
import { FreshetError } from "../../core/errors.ts";
import type { Plan, Scalar } from "../../core/plan.ts";
import { checkFeatures, createEncoder, vectorHash } from "../../core/scoring/vector.ts";
import { hash64 } from "../hash.ts";
import { type ModelRegistry, type ModelVersion, modelName } from "./model-registry.ts";
import { type Model, openModel } from "./open.ts";

export interface ServedModel {
  /** `fraud-lightgbm@7`. */
  readonly name: string;
  readonly model: Model;
  /** Scalars in the order of the vector to doubles. */
  readonly encode: (values: readonly Scalar[]) => Float64Array;
}

/**
 * @throws FreshetError `service_unknown`, `model_plan_mismatch`, `model_features_mismatch`, what `registry.files` and `openModel` throw
 */
export async function openServable(
  registry: Pick<ModelRegistry, "files">,
  plan: Plan,
  record: ModelVersion,
): Promise<ServedModel> {
  const name = modelName(record);
  const service = plan.services.find((one) => one.name === record.service);
  if (service === undefined) {
    throw new FreshetError("service_unknown", `the plan has no service ${record.service}`, {
      field: "service",
      repair: `use one of ${plan.services.map((one) => one.name).join(", ")}`,
    });
  }
  if (record.vectorHash !== vectorHash(plan, service, hash64)) {
    throw new FreshetError(
      "model_plan_mismatch",
      `${name} was trained on features that mean something else under plan ${plan.hash}`,
      { field: "plan_hash", repair: "train again under this plan: freshet train" },
    );
  }
  const model = await openModel(await registry.files(record));
  try {
    checkFeatures(plan, service, model.manifest.features);
  } catch (error) {
    await model.close();
    throw error;
  }
  return { name, model, encode: createEncoder(model.manifest.features) };
}

/** Throws what would keep a version from serving. */
export type ServableCheck = (record: ModelVersion) => Promise<void>;

export const servableCheck =
  (registry: Pick<ModelRegistry, "files">, plan: Plan): ServableCheck =>
  async (record) => {
    const { model } = await openServable(registry, plan, record);
    await model.close();
  };
