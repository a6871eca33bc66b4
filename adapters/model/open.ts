/**
 * Opens a model artefact for scoring. Nothing is taken on trust: digests, the graph's inputs and the golden rows are checked
 * first, so a model that opens scores here as it did where it was trained.
 */
import { hash } from "node:crypto";
import type { InferenceSession } from "onnxruntime-node";
import { FreshetError } from "../../core/errors.ts";
import { type NodeMeans, nodeMeans, pathContributions, sumOfLeaves } from "../../core/scoring/trees.ts";
import { type Golden, type Manifest, readGolden, readManifest, readSidecar, type Sidecar } from "./manifest.ts";

/** Files that scoring and explaining need; an artefact's others are for people. */
export const SERVED_FILES = ["manifest.json", "model.onnx", "golden.json", "trees.json"] as const;
export type ArtefactFiles = Readonly<Record<string, Uint8Array>>;

/** Python and Node agree to about 1e-15; a bug in either is far above this. */
const GOLDEN_TOLERANCE = 1e-9;
/** A run blocks the event loop for as long as it takes: about 10 µs a row for 200 trees. */
const ROWS_A_RUN = 100;
/** From here on the runtime's blocks of rows make up for what a call of it costs: tensors, and two turns of the event loop. */
const ROWS_FOR_RUNTIME = 16;

export interface ModelScore {
  /** Calibrated, 0 to 1. */
  readonly probability: number;
  /** The same in log-odds; contributions add up to it. */
  readonly raw: number;
}

export interface Explanation {
  /** `path`: along the decision path; `shap`: exact Shapley values. */
  readonly method: "path" | "shap";
  readonly base: number;
  /** Aligned with the model's features; base + their sum = raw, in log-odds. */
  readonly contributions: readonly number[];
}

export interface Model {
  readonly manifest: Manifest;
  readonly sidecar: Sidecar;
  readonly means: NodeMeans;
  /** @param vectors encoded, each as long as the features */
  score(vectors: readonly Float64Array[]): Promise<ModelScore[]>;
  /** In the caller's thread: microseconds. */
  explain(vector: Float64Array): Explanation;
  /** Frees the session's memory. Runs under way end first: they hold the thread. */
  close(): Promise<void>;
}

/**
 * @throws FreshetError `artefact_incomplete`, `artefact_digest`, `artefact_invalid`, `artefact_version`, `model_graph`,
 *   `model_input_count`, `model_golden_rows`
 */
export async function openModel(files: ArtefactFiles): Promise<Model> {
  const manifest = readManifest(fileOf(files, "manifest.json"));
  for (const name of SERVED_FILES) if (name !== "manifest.json") checkDigest(manifest, name, fileOf(files, name));
  const width = manifest.features.length;
  const golden = readGolden(files["golden.json"], width);
  const sidecar = readSidecar(files["trees.json"], width);
  const { ort, session } = await openSession(files["model.onnx"], width);
  const means = nodeMeans(sidecar.trees);

  const run: Run = async (vectors) => {
    const features = new ort.Tensor("float64", joined(vectors, width), [vectors.length, width]);
    const { probability, raw } = await session.run({ features });
    return { probability: probability.data as Float64Array, raw: raw.data as Float64Array };
  };
  const walk = (vector: Float64Array) => scoreOf(sidecar.a * sumOfLeaves(sidecar.trees, vector) + sidecar.b);
  const model: Model = {
    manifest,
    sidecar,
    means,
    async score(vectors) {
      if (vectors.length < ROWS_FOR_RUNTIME) return vectors.map(walk);
      const scores: ModelScore[] = [];
      for (let at = 0; at < vectors.length; at += ROWS_A_RUN) {
        const { raw } = await run(vectors.slice(at, at + ROWS_A_RUN));
        for (const one of raw) scores.push(scoreOf(one));
      }
      return scores;
    },
    explain: (vector) => calibrated("path", sidecar, pathContributions(sidecar.trees, means, vector)),
    close: () => session.release(),
  };
  try {
    await checkGolden(model, run, golden);
  } catch (error) {
    await session.release();
    throw error;
  }
  return model;
}

/** What the graph says of each row. */
type Run = (
  vectors: readonly Float64Array[],
) => Promise<{ readonly probability: Float64Array; readonly raw: Float64Array }>;

/**
 * Raw scores are the same doubles by the graph and by the trees, since both add up the same leaves in the same order. The runtime's own
 * probabilities aren't: it rounds a row's otherwise alone than among others, and candidates that are alike have to stay so.
 */
const scoreOf = (raw: number): ModelScore => ({ probability: 1 / (1 + Math.exp(-raw)), raw });

function joined(vectors: readonly Float64Array[], width: number): Float64Array {
  const flat = new Float64Array(vectors.length * width);
  vectors.forEach((vector, row) => {
    flat.set(vector, row * width);
  });
  return flat;
}

/** Platt's a and b stay in log-odds, so scaled contributions still add up. */
export function calibrated(
  method: Explanation["method"],
  { a, b }: Pick<Sidecar, "a" | "b">,
  { base, contributions }: { readonly base: number; readonly contributions: Iterable<number> },
): Explanation {
  return { method, base: a * base + b, contributions: Array.from(contributions, (one) => a * one) };
}

function fileOf(files: ArtefactFiles, name: string): Uint8Array {
  const bytes = files[name];
  if (bytes !== undefined) return bytes;
  throw new FreshetError("artefact_incomplete", `the artefact has no ${name}`, {
    field: name,
    repair: "use the folder that freshet train has written, whole",
  });
}

function checkDigest(manifest: Manifest, name: string, bytes: Uint8Array): void {
  const wanted = manifest.files[name];
  if (wanted === hash("sha256", bytes, "hex")) return;
  throw new FreshetError(
    "artefact_digest",
    wanted === undefined
      ? `manifest.json has no digest of ${name}`
      : `${name} is not the file that its manifest names: its SHA-256 is another`,
    { field: name, repair: "register the artefact again from where it was trained" },
  );
}

async function openSession(bytes: Uint8Array, width: number) {
  // Its build for Linux keeps records of its use and sends them to its maker, unless the process says so before it is loaded.
  process.env["ORT_DISABLE_TELEMETRY"] = "1";
  // Loaded on first use: a process that scores with rules alone does not pay for it.
  const ort = (await import("onnxruntime-node")).default;
  let session: InferenceSession;
  try {
    session = await ort.InferenceSession.create(bytes, {
      // One row is too little work to share between threads, and they would take the second core from the store.
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      executionMode: "sequential",
      // Warnings about the machine go to stderr of every cold start.
      logSeverityLevel: 3,
    });
  } catch (cause) {
    throw new FreshetError("model_graph", "model.onnx is no graph that this runtime can load", {
      field: "model.onnx",
      repair: "train it again with this release",
      cause,
    });
  }
  const refuse = async (code: string, message: string): Promise<never> => {
    await session.release();
    throw new FreshetError(code, message, {
      field: "model.onnx",
      repair: "train it again on a training set of this plan",
    });
  };
  const [input] = session.inputMetadata;
  if (session.inputNames.join() !== "features" || !input.isTensor || input.type !== "float64") {
    await refuse(
      "model_graph",
      `model.onnx takes ${session.inputNames.join(", ")}, not one double tensor called features`,
    );
  }
  const columns = input.isTensor ? input.shape[1] : null;
  if (columns !== width) {
    await refuse("model_input_count", `model.onnx takes ${columns} inputs, its manifest names ${width} features`);
  }
  for (const name of ["probability", "raw"]) {
    if (!session.outputNames.includes(name)) await refuse("model_graph", `model.onnx has no output called ${name}`);
  }
  return { ort, session };
}

/** Also the warm-up: the session's first runs and the walk's first calls are these. */
async function checkGolden(model: Model, run: Run, golden: Golden): Promise<void> {
  const { sidecar, manifest } = model;
  const refuse = (what: string, row: number, got: number, wanted: number): never => {
    throw new FreshetError(
      "model_golden_rows",
      `${what} of golden row ${row} is ${got} here and ${wanted} where ${manifest.model} was trained`,
      { field: "golden.json", repair: "do not serve this model; train it again, and report what differs" },
    );
  };
  const differs = (got: number, wanted: number) => !(Math.abs(got - wanted) <= GOLDEN_TOLERANCE);
  const together = await run(golden.rows);
  for (let row = 0; row < golden.rows.length; row++) {
    const [probability, raw] = [golden.probability[row], golden.raw[row]];
    if (differs(together.probability[row], probability))
      refuse("probability", row, together.probability[row], probability);
    if (differs(together.raw[row], raw)) refuse("raw", row, together.raw[row], raw);
    const alone = await run([golden.rows[row]]);
    if (differs(alone.raw[0], raw)) refuse("raw, scored alone,", row, alone.raw[0], raw);
    const walked = sidecar.a * sumOfLeaves(sidecar.trees, golden.rows[row]) + sidecar.b;
    if (differs(walked, raw)) refuse("the sum of leaves in trees.json", row, walked, raw);
    // As requests come.
    const [scored] = await model.score([golden.rows[row]]);
    if (differs(scored.probability, probability))
      refuse("probability by trees.json", row, scored.probability, probability);
    const { base, contributions } = model.explain(golden.rows[row]);
    const explained = contributions.reduce((sum, one) => sum + one, base);
    if (differs(explained, raw)) refuse("the sum of contributions", row, explained, raw);
  }
}
