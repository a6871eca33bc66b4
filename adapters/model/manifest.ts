/**
 * The files of a model artefact as values. What they hold is checked here, shape by shape; what it has to do with a service is
 * `core/scoring/vector.ts`'s question. Writer: training/.
 */

import { FreshetError } from "../../core/errors.ts";
import type { Trees } from "../../core/scoring/trees.ts";
import type { Dtype, VectorFeature } from "../../core/scoring/vector.ts";

export type Metrics = Readonly<Record<string, number | null>>;

export interface MeasuredChampion {
  /** Of the champion's manifest.json: whose metrics these are. */
  readonly manifestSha256: string;
  readonly metrics: Metrics;
}

export interface Manifest {
  readonly version: 1;
  readonly service: string;
  /** What the training run called it, as `fraud-lightgbm`. */
  readonly model: string;
  readonly planHash: string;
  readonly createdMs: number;
  readonly gitCommit: string | null;
  /** The manifest of the training set, as it was. */
  readonly trainingSet: Readonly<Record<string, unknown>>;
  readonly features: readonly VectorFeature[];
  readonly metrics: Metrics;
  /** How the champion of that time did on this model's test slice; null when it wasn't measured there. */
  readonly champion: MeasuredChampion | null;
  /** SHA-256 of the artefact's other files, in hex. */
  readonly files: Readonly<Record<string, string>>;
}

export interface Golden {
  /** Vectors as they are encoded; null in the file is NaN here. */
  readonly rows: readonly Float64Array[];
  readonly probability: readonly number[];
  readonly raw: readonly number[];
}

/** Trees with what turns the sum of their leaves into the raw score: raw = a x sum + b. */
export interface Sidecar {
  readonly trees: Trees;
  readonly a: number;
  readonly b: number;
}

const DTYPES: readonly string[] = ["double", "int64", "string", "boolean"] satisfies Dtype[];

const refuse = (file: string, message: string): never => {
  throw new FreshetError("artefact_invalid", `${file}: ${message}`, {
    field: file,
    repair: "use the folder that freshet train has written, unchanged",
  });
};

function parse(file: string, bytes: Uint8Array): Record<string, any> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    refuse(file, "is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) refuse(file, "is not an object");
  const { version } = value as Record<string, unknown>;
  if (version !== undefined && version !== 1) {
    throw new FreshetError("artefact_version", `${file} has version ${JSON.stringify(version)}, this reader knows 1`, {
      field: file,
      repair: "serve it with the release that trained it, or a newer one",
    });
  }
  return value as Record<string, any>;
}

const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === "string");

/** @throws FreshetError `artefact_invalid`, `artefact_version`, as do all here */
export function readManifest(bytes: Uint8Array): Manifest {
  const file = "manifest.json";
  const raw = parse(file, bytes);
  for (const name of ["service", "model", "plan_hash"]) {
    if (typeof raw[name] !== "string" || raw[name] === "") refuse(file, `${name} is a string`);
  }
  if (!Number.isSafeInteger(raw["created_ms"])) refuse(file, "created_ms is a whole number");
  const { features, files, metrics } = raw;
  const isFeature = (one: any) =>
    typeof one?.name === "string" &&
    DTYPES.includes(one.dtype) &&
    (one.categories === undefined || isStrings(one.categories));
  if (!Array.isArray(features) || features.length === 0 || !features.every(isFeature)) {
    refuse(file, "features is a list of name, dtype and, for a string, categories");
  }
  if (typeof files !== "object" || files === null || !Object.values(files).every((one) => typeof one === "string")) {
    refuse(file, "files maps names to SHA-256");
  }
  return {
    version: 1,
    service: raw["service"],
    model: raw["model"],
    planHash: raw["plan_hash"],
    createdMs: raw["created_ms"],
    gitCommit: typeof raw["git_commit"] === "string" ? raw["git_commit"] : null,
    trainingSet: raw["training_set"] ?? {},
    features,
    metrics: metricsOf(metrics),
    champion: championOf(raw["champion"]),
    files,
  };
}

const metricsOf = (metrics: unknown): Metrics =>
  Object.fromEntries(
    Object.entries(metrics ?? {}).filter(([, value]) => typeof value === "number" || value === null),
  ) as Metrics;

function championOf(given: any): MeasuredChampion | null {
  const digest = given?.manifest_sha256;
  return typeof digest === "string" ? { manifestSha256: digest, metrics: metricsOf(given.metrics) } : null;
}

/** NaN for null. An infinity is written as 1e999, which parses as one. */
function double(file: string, value: unknown): number {
  if (typeof value === "number") return value;
  return value === null ? Number.NaN : refuse(file, `${JSON.stringify(value)} is no number`);
}

/** @param width number of the model's features */
export function readGolden(bytes: Uint8Array, width: number): Golden {
  const file = "golden.json";
  const { rows, probability, raw } = parse(file, bytes);
  if (!Array.isArray(rows) || rows.length === 0) refuse(file, "rows is a list with at least one row");
  for (const scores of [probability, raw]) {
    const isScores = Array.isArray(scores) && scores.length === rows.length;
    if (!isScores || !scores.every((one: unknown) => typeof one === "number")) {
      refuse(file, `probability and raw hold a number for each of the ${rows.length} rows`);
    }
  }
  return {
    rows: rows.map((row: unknown, index: number) => {
      if (Array.isArray(row) && row.length === width) return Float64Array.from(row, (value) => double(file, value));
      return refuse(
        file,
        `row ${index} has ${Array.isArray(row) ? row.length : "no"} values, the model ${width} features`,
      );
    }),
    probability,
    raw,
  };
}

/** @param width number of the model's features */
export function readSidecar(bytes: Uint8Array, width: number): Sidecar {
  const file = "trees.json";
  const { feature_count, calibration, roots, nodes = {}, members, leaves = {} } = parse(file, bytes);
  if (feature_count !== width) refuse(file, `has ${feature_count} features, the model ${width}`);
  const size = nodes.feature?.length;
  const columns = ["feature", "kind", "threshold", "nan_true", "true", "false", "cover"];
  for (const name of columns) {
    if (!Array.isArray(nodes[name]) || nodes[name].length !== size) refuse(file, `nodes.${name} has a value a node`);
  }
  const count = leaves.value?.length;
  if (!Array.isArray(leaves.value) || leaves.cover?.length !== count)
    refuse(file, "leaves have a value and a cover each");
  const inside = (ref: number) => Number.isInteger(ref) && ref < size && -ref - 1 < count;
  for (const list of [roots, nodes.true, nodes.false]) {
    if (!Array.isArray(list) || !list.every(inside)) refuse(file, "a child is neither a node nor a leaf");
  }
  // A child lies behind its parent, so a walk ends.
  for (const list of [nodes.true, nodes.false] as number[][]) {
    if (!list.every((ref, node) => ref < 0 || ref > node)) refuse(file, "a child lies before its parent");
  }
  if (!nodes.feature.every((index: number) => index >= 0 && index < width)) refuse(file, "a node splits by no feature");
  let next = 0;
  const trees: Trees = {
    featureCount: width,
    roots: Int32Array.from(roots),
    feature: Int32Array.from(nodes.feature),
    threshold: Float64Array.from(nodes.threshold, (value, node) => (nodes.kind[node] === 1 ? 0 : double(file, value))),
    categories: nodes.kind.map((kind: number) => (kind === 1 ? new Set<number>(members[next++]) : null)),
    nanLeft: Uint8Array.from(nodes.nan_true),
    left: Int32Array.from(nodes.true),
    right: Int32Array.from(nodes.false),
    nodeCount: Float64Array.from(nodes.cover),
    leafCount: Float64Array.from(leaves.cover),
    leafValue: Float64Array.from(leaves.value),
  };
  return { trees, a: double(file, calibration?.a ?? "none"), b: double(file, calibration?.b ?? "none") };
}
