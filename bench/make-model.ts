/** A model that fits a service of a plan and knows nothing, for measurements and tests. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Plan, Service } from "../core/plan.ts";
import { vectorNames } from "../core/scoring/vector.ts";
import { ROOT } from "../local/home.ts";

/** Trains it on noise. @returns its folder, inside of `folder` */
export function makeModel(plan: Plan, service: Service, folder: string, trees = 200): string {
  const stored = plan.views.flatMap(({ features }) => features.map(({ name, dtype }) => [name, dtype] as const));
  const dtypes = new Map<string, string>(stored);
  for (const [name, type] of Object.entries(service.request)) {
    dtypes.set(`request:${name}`, type === "long" ? "int64" : type);
  }
  const features = vectorNames(service).map((name) => ({ name, dtype: dtypes.get(name) ?? "double" }));
  const spec = join(folder, "features.json");
  writeFileSync(spec, JSON.stringify({ service: service.name, plan_hash: plan.hash, features }));
  const model = join(folder, "model");
  const python = join(ROOT, ".freshet", "venv", "bin", "python");
  execFileSync(python, [join(import.meta.dirname, "python", "make_model.py"), spec, model, String(trees)]);
  return model;
}
