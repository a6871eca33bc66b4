/** Steps of the training machine taken again, as Step Functions does when an answer is lost: on the emulator's DynamoDB and S3. */
import { execFileSync } from "node:child_process";
import { PutObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createArtefactStore } from "../../../../adapters/model/artefact-store.ts";
import { ModelRegistry } from "../../../../adapters/model/model-registry.ts";
import { promote } from "../../../../adapters/model/promotion.ts";
import { DEFAULT_GATE } from "../../../../core/scoring/gate.ts";
import {
  makeChampion,
  register,
  type Trained,
  type TrainingPorts,
} from "../../../../functions/shared/training/training-pipeline.ts";
import { type FaultProxy, startAwsFaultProxy } from "../../../../local/faults/aws-proxy.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../../harness/emulator.ts";
import { alteredFolder, MODEL_FOLDER, modelPlan } from "../../../support/model-fixture.ts";

const id = { tenant: "team-a", service: "fraud" };
let emulator: TestEmulator;
let proxy: FaultProxy;
let ports: TrainingPorts;
let tables = 0;

beforeAll(async () => {
  emulator = await startEmulator();
  proxy = await startAwsFaultProxy(emulator.url);
  await createBucket(emulator.url, "models");
  await upload("first", MODEL_FOLDER);
  await upload(
    "second",
    alteredFolder((manifest) => void (manifest.created_ms += 1)),
  );
});
beforeEach(async () => {
  const table = `models-${tables++}`;
  await createTable(emulator.url, table);
  const { dynamodb, s3 } = testClients(proxy.url);
  const registry = new ModelRegistry({ table, dynamodb, artefacts: createArtefactStore({ bucket: "models", s3 }) });
  ports = { plan: modelPlan, gateOf: () => DEFAULT_GATE, registry, s3 };
});
afterEach(() => proxy.use(null));
afterAll(async () => {
  await proxy?.stop();
  await emulator?.stop();
});

async function upload(job: string, folder: string): Promise<void> {
  const Body = execFileSync("tar", ["-czf", "-", "-C", folder, "."]);
  await testClients(emulator.url).s3.send(new PutObjectCommand({ Bucket: "models", Key: `jobs/${job}.tar.gz`, Body }));
}
const trained = (execution: string, job = "first"): Trained => ({
  ...id,
  training_set: "s3://models/set/",
  champion: "s3://models/champion/",
  job_name: execution,
  group: "fraud",
  hyperparameters: {},
  promote: true,
  execution,
  job: { model: `s3://models/jobs/${job}.tar.gz` },
});
const versions = async () => (await ports.registry.list(id)).map(({ version, by }) => [version, by]);
/** Lets the next call of an operation happen and loses its answer; the attempts that follow do not arrive. */
function losing(operation: string, attempts: "retried" | "given up"): void {
  const before = proxy.exchanges.filter((one) => one.operation === operation).length;
  proxy.use((one) => {
    if (one.operation !== operation || one.index < before) return null;
    if (one.index === before) return { kind: "lose-answer" };
    return attempts === "retried" ? null : { kind: "refuse" };
  });
}

describe("registering again", () => {
  it("gives the version that the execution has already", async () => {
    expect(await register(ports, trained("e1"), 1)).toEqual({ version: 1 });
    expect(await register(ports, trained("e1"), 2)).toEqual({ version: 1 });
    expect(await versions()).toEqual([[1, "training e1"]]);
  });

  it("is a version of its own for another execution, and for another artefact of a name that came back", async () => {
    await register(ports, trained("e1"), 1);
    expect(await register(ports, trained("e2"), 2)).toEqual({ version: 2 });
    expect(await register(ports, trained("e1", "second"), 3)).toEqual({ version: 3 });
  });

  it("finds a version whose answer was lost on the way, for the client's own retry and for the step's", async () => {
    losing("PutItem", "retried");
    expect(await register(ports, trained("e1"), 1)).toEqual({ version: 1 });
    losing("PutItem", "given up");
    await expect(register(ports, trained("e2"), 2)).rejects.toThrow("adding a version in model table");
    proxy.use(null);
    expect(await register(ports, trained("e2"), 3)).toEqual({ version: 2 });
    expect(await versions()).toEqual([
      [2, "training e2"],
      [1, "training e1"],
    ]);
  });
});

describe("promoting again", () => {
  it("is done when the execution's change stands, and changes nothing", async () => {
    const { version } = await register(ports, trained("e1"), 1);
    losing("TransactWriteItems", "given up");
    await expect(makeChampion(ports, trained("e1"), version, 2)).rejects.toThrow("changing aliases in model table");
    proxy.use(null);
    expect((await ports.registry.aliases(id)).champion).toBe(1);
    expect(await makeChampion(ports, trained("e1"), version, 3)).toEqual({ champion: 1, revision: 1 });
    expect(await ports.registry.history(id)).toHaveLength(1);
  });

  it("does not take back what somebody has promoted since", async () => {
    await register(ports, trained("e1"), 1);
    await register(ports, trained("e2"), 2);
    await makeChampion(ports, trained("e1"), 1, 3);
    const check = async () => {};
    await promote(ports.registry, id, { version: 2, alias: "champion", force: true, check, nowMs: 4, by: "somebody" });
    expect(await makeChampion(ports, trained("e1"), 1, 5)).toEqual({ champion: 1, revision: 1 });
    expect((await ports.registry.aliases(id)).champion).toBe(2);
  });

  it("of what somebody else has made champion is refused", async () => {
    await register(ports, trained("e1"), 1);
    const check = async () => {};
    await promote(ports.registry, id, { version: 1, alias: "champion", force: true, check, nowMs: 2, by: "somebody" });
    await expect(makeChampion(ports, trained("e1"), 1, 3)).rejects.toThrow("fraud-lightgbm@1 is champion already");
  });
});
