/** The artefact that the trainer has committed, and a plan of exactly its features, whatever the app's own plan has become. */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ArtefactFiles } from "../../adapters/model/open.ts";
import { type FeatureServiceDefinition, featureService, ratio, rules } from "../../core/definition.ts";
import type { Dtype, Feature, Plan } from "../../core/plan.ts";

export const MODEL_FOLDER = join(import.meta.dirname, "..", "fixtures", "models", "fraud");
export const modelFiles: ArtefactFiles = Object.fromEntries(
  readdirSync(MODEL_FOLDER).map((name) => [name, readFileSync(join(MODEL_FOLDER, name))]),
);
export const modelJson = (name: string) => JSON.parse(Buffer.from(modelFiles[name]).toString("utf8"));

const manifest = modelJson("manifest.json");
const dtypes = new Map<string, Dtype>(manifest.features.map((one: any) => [one.name, one.dtype]));
const names = [...dtypes.keys()];
const stored = names.filter((name) => name.includes(":") && !name.startsWith("request:"));
const onDemand = names.filter((name) => !name.includes(":"));
const request = names.filter((name) => name.startsWith("request:"));
const REQUEST_TYPES = { double: "double", int64: "long", string: "string", boolean: "boolean" } as const;
const viewNames = [...new Set(stored.map((name) => name.split(":")[0]))];
const entityOf = (view: string) => view.split("_")[0];

const feature = (name: string): Feature => ({
  name,
  view: name.split(":")[0],
  operator: "count",
  window: { kind: "hopping", sizeMs: 3_600_000, hopMs: 60_000, delayMs: 0 },
  slots: [0],
  scale: null,
  sample: false,
  dtype: dtypes.get(name)!,
  description: "",
});

/** One view an entity, every feature a count: enough for what reads names, types and meanings. */
export const modelPlan: Plan = {
  version: 1,
  hash: manifest.plan_hash,
  layoutHash: "0",
  entities: viewNames.map((view) => ({ name: entityOf(view), joinKey: `${entityOf(view)}_id`, description: "" })),
  streams: [],
  groups: viewNames.map((view, id) => ({
    id,
    name: `${entityOf(view)}:transactions`,
    entity: entityOf(view),
    stream: "transactions",
    baseMs: 60_000,
    levels: [],
    absorbing: 0,
    channels: [{ input: { field: null, where: null, scale: null }, type: null }],
    slots: [{ id: 0, kind: "count", channel: 0, levels: [0], lifetime: false }],
    hasLifetime: false,
    expireMs: null,
  })),
  batchViews: [],
  views: viewNames.map((view, group) => ({
    name: view,
    entity: entityOf(view),
    stream: "transactions",
    group,
    ttlMs: 3_600_000,
    reachMs: 3_600_000,
    owner: "",
    description: "",
    tags: [],
    features: stored.filter((name) => name.startsWith(`${view}:`)).map(feature),
  })),
  services: [
    {
      name: "fraud",
      features: stored,
      onDemand,
      request: Object.fromEntries(
        request.map((name) => [name.slice("request:".length), REQUEST_TYPES[dtypes.get(name)!]]),
      ),
      defaults: {},
      entities: viewNames.map(entityOf),
      task: "binary",
      fallback: "rule-based-v1",
    },
  ],
};

/** The definition behind the plan's service. */
export function modelDefinition(more: Partial<FeatureServiceDefinition> = {}): FeatureServiceDefinition {
  const defined = featureService("fraud", {
    features: [],
    request: modelPlan.services[0].request,
    onDemand: Object.fromEntries(
      onDemand.map((name) => [name, ({ request: given, f }: any) => ratio(given.amount, f(stored[0])) as any]),
    ),
    task: "binary",
    fallback: rules("rule-based-v1", { base: 0.01, review: 0.5, decline: 0.85, rules: [] }),
  });
  return { ...defined, ...more };
}

/** The artefact with changes to its manifest, in a folder of its own; digests of other files are made right. */
export function alteredFolder(edit: (manifest: any) => void, files: Readonly<Record<string, Uint8Array>> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), "freshet-model-"));
  const all = { ...modelFiles, ...files };
  const altered = modelJson("manifest.json");
  for (const name in altered.files) altered.files[name] = createHash("sha256").update(all[name]).digest("hex");
  edit(altered);
  for (const [name, bytes] of Object.entries(all)) writeFileSync(join(folder, name), bytes);
  writeFileSync(join(folder, "manifest.json"), JSON.stringify(altered));
  return folder;
}
