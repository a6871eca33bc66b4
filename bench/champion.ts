/** A registry of one model under ever new versions, and what serves from it: the product's own, which opens, checks and warms each of them. */

import { hash64 } from "../adapters/hash.ts";
import { readArtefactFolder } from "../adapters/model/artefact-store.ts";
import type { ModelVersion } from "../adapters/model/model-registry.ts";
import { createModelServing, type ModelServing } from "../adapters/model/serving.ts";
import type { Plan, Service } from "../core/plan.ts";
import { vectorHash } from "../core/scoring/vector.ts";

export interface Champion {
  readonly serving: ModelServing;
  /** Makes the next version champion. @returns ms until it serves */
  promote(): Promise<number>;
}

/** @param folder of the artefact */
export async function serveChampion(plan: Plan, service: Service, folder: string): Promise<Champion> {
  let champion = 1;
  const id = { tenant: "default", service: service.name };
  const aliases = { champion: 0, challenger: null, shadow: null, share: null, revision: 0 };
  const serving = createModelServing({
    registry: {
      allAliases: async () => [{ ...id, aliases: { ...aliases, champion, revision: champion } }],
      get: async (_, version) =>
        ({ ...id, version, model: "bench", vectorHash: vectorHash(plan, service, hash64) }) as ModelVersion,
      files: async () => readArtefactFolder(folder),
    },
    ...{ plan, clock: Date.now, pollMs: null },
    onEvent: ({ kind, error }) => {
      if (kind !== "serves") throw new Error(`the model is ${kind}: ${String(error)}`);
    },
  });
  await serving.refresh();
  if (serving.served("default", service.name).champion === null) throw new Error("the model does not serve");
  return {
    serving,
    async promote() {
      const startedAt = performance.now();
      champion++;
      await serving.refresh();
      if (serving.served("default", service.name).champion?.name !== `bench@${champion}`) {
        throw new Error("the new champion does not serve");
      }
      return performance.now() - startedAt;
    },
  };
}
