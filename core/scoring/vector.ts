/**
 * What a model is fed: the service's features, its on-demand features and its request fields, in this order, as doubles. The
 * training container encodes in the same way; golden rows of every model hold both sides to it.
 */
import { DefinitionError } from "../errors.ts";
import type { Hash64 } from "../event.ts";
import { canonicalJson } from "../json.ts";
import type { Plan, Scalar, Service } from "../plan.ts";

export type Dtype = "double" | "int64" | "string" | "boolean";

/** One input of a model. A string has `categories`: its code is its index in them. */
export interface VectorFeature {
  readonly name: string;
  readonly dtype: Dtype;
  readonly categories?: readonly string[];
}

/** LightGBM reads magnitudes up to its float32 constant 1e-35f, here written out, as 0 when it predicts; ONNX does not. */
const TINY = 1.0000000180025095e-35;
/** A category that training did not see. It is a member of no split's set, as LightGBM has it. */
const UNSEEN = -1;
const REQUEST_DTYPES = { double: "double", long: "int64", string: "string", boolean: "boolean" } as const;

/** Full names in the order of the vector; a request field is called `request:amount`. */
export const vectorNames = (service: Service): string[] => [
  ...service.features,
  ...service.onDemand,
  ...Object.keys(service.request).map((name) => `request:${name}`),
];

/** Vectors are cut from blocks of this many bytes: a block of its own for each takes eight times as long. */
const BLOCK_BYTES = 16_384;

/**
 * One double of the vector: NaN for an absent value and for a value that is not of the feature's type. Vectors share their buffer: copy
 * one before it goes to another thread.
 */
export function createEncoder(features: readonly VectorFeature[]): (values: readonly Scalar[]) => Float64Array {
  const size = features.length * Float64Array.BYTES_PER_ELEMENT;
  let block = new ArrayBuffer(0);
  let at = 0;
  const codes = features.map(({ dtype, categories }) =>
    dtype === "string" ? new Map((categories ?? []).map((text, code) => [text, code])) : null,
  );
  return (values) => {
    if (at + size > block.byteLength) {
      block = new ArrayBuffer(Math.max(BLOCK_BYTES, size));
      at = 0;
    }
    const vector = new Float64Array(block, at, features.length);
    at += size;
    for (let i = 0; i < vector.length; i++) {
      const value = values[i];
      const known = codes[i];
      if (known !== null) vector[i] = typeof value === "string" ? (known.get(value) ?? UNSEEN) : Number.NaN;
      else if (typeof value === "number") vector[i] = Math.abs(value) <= TINY ? 0 : value;
      else vector[i] = typeof value === "boolean" ? Number(value) : Number.NaN;
    }
    return vector;
  };
}

/**
 * Whether a model's inputs are the service's vector.
 * @throws DefinitionError `model_features_mismatch` naming the first position that differs
 */
export function checkFeatures(plan: Plan, service: Service, features: readonly VectorFeature[]): void {
  const names = vectorNames(service);
  const refuse = (message: string, field?: string): never => {
    throw new DefinitionError("model_features_mismatch", `${message}, so it is no model of service ${service.name}`, {
      field,
      repair: "train on a training set of this plan: freshet train --service",
    });
  };
  for (let i = 0; i < Math.max(names.length, features.length); i++) {
    const given = features[i]?.name;
    if (given === names[i]) continue;
    refuse(
      `the model's input ${i} is ${given ?? "missing"} where the plan has ${names[i] ?? "none"}`,
      names[i] ?? given,
    );
  }
  const dtypes = new Map<string, string>(
    [...plan.views, ...plan.batchViews].flatMap((view) => view.features.map((one) => [one.name, one.dtype])),
  );
  for (const { name, dtype } of service.registered ?? []) dtypes.set(name, dtype);
  for (const [name, type] of Object.entries(service.request)) dtypes.set(`request:${name}`, REQUEST_DTYPES[type]);
  for (const { name, dtype, categories } of features) {
    const planned = dtypes.get(name);
    if (planned !== undefined && planned !== dtype) {
      refuse(`the model takes ${name} as ${dtype} where the plan has ${planned}`, name);
    }
    if ((dtype === "string") !== (categories !== undefined)) {
      refuse(`the model takes ${name} as ${dtype} ${categories === undefined ? "without" : "with"} categories`, name);
    }
  }
}

/**
 * Hash of all that gives the vector its meaning: whose past and which stream, operators, windows, inputs, ttl, defaults, names
 * of on-demand features, types of request fields. Two plans with the same one feed a model alike; what else a plan holds is nothing to the model. The code of
 * on-demand functions is not in it.
 */
export function vectorHash(plan: Plan, service: Service, hash64: Hash64): string {
  const features = service.features.map((name) => {
    const registered = service.registered?.find((input) => input.name === name);
    if (registered !== undefined) return { ...registered };
    const batch = plan.batchViews.find(({ features }) => features.some((one) => one.name === name));
    if (batch !== undefined) {
      const { entity, sql, everyMs, lookbackMs, ttlMs } = batch;
      const { dtype } = batch.features.find((one) => one.name === name)!;
      return { name, dtype, entity, sql, everyMs, lookbackMs, ttlMs };
    }
    const view = plan.views.find(({ features }) => features.some((one) => one.name === name))!;
    const {
      description: _,
      unit: __,
      deprecated: ___,
      slots,
      ...feature
    } = view.features.find((one) => one.name === name)!;
    const { entity, stream, ttlMs } = view;
    const { baseMs, channels, slots: all } = plan.groups[view.group];
    return {
      ...feature,
      entity,
      stream,
      baseMs,
      ttlMs,
      inputs: slots.map((slot) => channels[all[slot].channel].input),
    };
  });
  const { onDemand, defaults, request } = service;
  return hash64(canonicalJson({ features, onDemand, defaults, request: Object.entries(request) }));
}
