/** What tests of training sets share: a small archive, and a folder of its own for each set. */
import { join } from "node:path";
import { beforeAll, beforeEach } from "vitest";
import type { ArchiveRow } from "../../adapters/archive/archive-format.ts";
import { buildTrainingSet, type MountStream, type TrainingSetOptions } from "../../adapters/offline/training-set.ts";
import { definitions } from "../../features/index.ts";
import { plan } from "../../features/plan.ts";
import { duckFiles } from "./duck-files.ts";
import { fraudArchive } from "./fraud-archive.ts";

/**
 * Of the test file that calls this, from its first test to its last.
 * @param serviceName of the app's own definitions
 * @param rows what the archive holds
 * @param defaults of each set that is built
 */
export function trainingWorld(
  serviceName: string,
  rows: readonly ArchiveRow[],
  defaults: Partial<TrainingSetOptions> = {},
) {
  const service = plan.services.find(({ name }) => name === serviceName)!;
  const definition = definitions.services.find(({ name }) => name === serviceName)!;
  const duck = duckFiles();
  let mount: MountStream;
  let out: string;
  beforeAll(() => {
    mount = fraudArchive(duck.session, join(duck.folder, "archive"), rows);
  });
  const nextSet = () => {
    out = duck.newFile("set");
  };
  beforeEach(nextSet);
  return {
    ...{ service, definition, nextSet, newFile: duck.newFile },
    get session() {
      return duck.session;
    },
    get mount() {
      return mount;
    },
    /** Folder of the set that is built next, or was last. */
    get out() {
      return out;
    },
    build: (spine: TrainingSetOptions["spine"], more: Partial<TrainingSetOptions> = {}) =>
      buildTrainingSet(duck.session, {
        ...{ plan, service, definition, tenant: "default", fromMs: null, toMs: null, labelDelayMs: null, mount, out },
        mountValues: async () => "of no batch view",
        ...defaults,
        spine,
        ...more,
      }),
    /** Of the set that was built last. */
    rows: (order = "as_of_ms, event_id") =>
      duck.session.rows(`SELECT * FROM read_parquet('${out}/*.parquet') ORDER BY ${order}`),
    async rowsById(): Promise<Record<string, Record<string, any>>> {
      return Object.fromEntries((await this.rows()).map((row) => [row["event_id"], row]));
    },
  };
}
