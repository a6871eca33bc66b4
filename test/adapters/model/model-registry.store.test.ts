/** The registry on the emulator's DynamoDB and S3. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createArtefactStore } from "../../../adapters/model/artefact-store.ts";
import { ModelRegistry } from "../../../adapters/model/model-registry.ts";
import { openModel } from "../../../adapters/model/open.ts";
import { promote, retire, rollback } from "../../../adapters/model/promotion.ts";
import { registerModel } from "../../../adapters/model/register.ts";
import { servableCheck } from "../../../adapters/model/servable.ts";
import { type FaultProxy, startAwsFaultProxy } from "../../../local/faults/aws-proxy.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";
import { alteredFolder, MODEL_FOLDER, modelPlan } from "../../support/model-fixture.ts";

let emulator: TestEmulator;
let proxy: FaultProxy;
let registry: ModelRegistry;
let tables = 0;

beforeAll(async () => {
  emulator = await startEmulator();
  proxy = await startAwsFaultProxy(emulator.url);
  await createBucket(emulator.url, "models");
});
beforeEach(async () => {
  const table = `models-${tables++}`;
  await createTable(emulator.url, table);
  const { dynamodb, s3 } = testClients(proxy.url);
  registry = new ModelRegistry({ table, dynamodb, artefacts: createArtefactStore({ bucket: "models", s3 }) });
});
afterEach(() => proxy.use(null));
afterAll(async () => {
  await proxy?.stop();
  await emulator?.stop();
});

const id = { tenant: "team-a", service: "fraud" };
let clock = 1_000;
const register = (folder = MODEL_FOLDER, tenant = id.tenant) =>
  registerModel(registry, folder, { tenant, service: "fraud", plan: modelPlan, nowMs: clock++, by: "test" });
const withMetrics = (metrics: Record<string, number>) =>
  alteredFolder((manifest) => void Object.assign(manifest.metrics, metrics));
const to = (version: number, alias: "champion" | "challenger" | "shadow" = "champion", more: object = {}) =>
  promote(registry, id, { version, alias, check: check(), nowMs: clock++, by: "test", ...more });
const check = (plan = modelPlan) => servableCheck(registry, plan);
/** What somebody, or a disk, does to an artefact after it was registered. */
const damage = async (version: number) => {
  const { prefix } = await registry.get(id, version);
  const artefacts = createArtefactStore({ bucket: "models", s3: testClients(emulator.url).s3 });
  await artefacts.put(prefix, { "model.onnx": Buffer.from("broken") });
};
const refusal = (work: Promise<unknown>) =>
  work.then(
    () => "done",
    ({ code, message }) => `${code}: ${message}`,
  );

describe("versions", () => {
  it("count up from 1, keep metrics and lineage, and give back the artefact whole", async () => {
    const first = await register();
    expect(first).toMatchObject({ version: 1, model: "fraud-lightgbm", planHash: modelPlan.hash, by: "test" });
    expect(first.prefix).toBe("models/tenant=team-a/fraud/1");
    expect(first.metrics["pr_auc"]).toBeGreaterThan(0);
    expect(first.trainingSet).toMatchObject({ row_count: 5000, service: "fraud" });
    expect(await register()).toMatchObject({ version: 2 });
    expect((await registry.list(id)).map(({ version }) => version)).toEqual([2, 1]);
    const model = await openModel(await registry.files(await registry.get(id, 1)));
    await model.close();
  });

  it("are a tenant's own", async () => {
    await register();
    expect(await registry.list({ ...id, tenant: "team-b" })).toEqual([]);
    expect(await refusal(registry.get({ ...id, tenant: "team-b" }, 1))).toBe(
      "model_version_unknown: model fraud of tenant team-b has no version 1",
    );
    expect((await register(MODEL_FOLDER, "team-b")).version).toBe(1);
  });

  it("that could not be served are refused, and the registry stays as it was", async () => {
    expect(await refusal(register(alteredFolder((manifest) => void (manifest.plan_hash = "ffff"))))).toBe(
      `model_plan_mismatch: the model was trained under plan ffff, this one is ${modelPlan.hash}`,
    );
    expect(await refusal(register(alteredFolder((manifest) => void (manifest.service = "ads"))))).toBe(
      "model_service_mismatch: the model was trained for service ads, not fraud",
    );
    const ofTeamA = alteredFolder(({ training_set }) => void (training_set.tenant = "team-a"));
    expect(await refusal(register(ofTeamA, "team-b"))).toBe(
      "model_tenant_mismatch: the model was trained on a training set of tenant team-a, not team-b",
    );
    expect(await refusal(register(MODEL_FOLDER, "a/b"))).toBe(
      'tenant_invalid: a tenant is 1 to 64 of a-z, 0-9, _ and -, given "a/b"',
    );
    expect(await refusal(register(alteredFolder(({ features }) => void features.reverse())))).toContain(
      "model_features_mismatch",
    );
    expect(await refusal(register(alteredFolder(({ features }) => void features.pop())))).toContain("artefact_invalid");
    expect(await refusal(register("no-such-folder"))).toBe(
      "artefact_incomplete: there is no artefact in no-such-folder",
    );
    expect(await registry.list(id)).toEqual([]);
  });

  it("whose upload fails are not listed, and their number is not given again", async () => {
    const denied = { kind: "error", status: 403, code: "AccessDenied" } as const;
    const before = proxy.exchanges.filter(({ operation }) => operation === "PutObject").length;
    proxy.use(({ operation, index }) => (operation === "PutObject" && index === before + 2 ? denied : null));
    expect(await refusal(register())).toContain("artefacts_unavailable");
    proxy.use(null);
    expect(await registry.list(id)).toEqual([]);
    expect((await register()).version).toBe(2);
  });

  it("whose manifest was changed in the bucket are refused", async () => {
    const version = await register();
    await createArtefactStore({ bucket: "models", s3: testClients(emulator.url).s3 }).put(version.prefix, {
      "manifest.json": Buffer.from("{}"),
    });
    expect(await refusal(registry.files(version))).toBe(
      "artefact_digest: manifest.json of fraud-lightgbm@1 is not the one that was registered",
    );
  });
});

describe("promotion", () => {
  it("goes through the gate, which says on which metric a model is worse and by how much", async () => {
    await register(withMetrics({ pr_auc: 0.5 }));
    await register(withMetrics({ pr_auc: 0.4 }));
    await to(1);
    expect(await refusal(to(2))).toBe(
      "gate_refused: the gate refuses fraud-lightgbm@2 in place of fraud-lightgbm@1: pr_auc 0.4000 is 0.1000 (20.0 %) worse than the champion's 0.5000; 0 % is allowed",
    );
    expect((await registry.aliases(id)).champion).toBe(1);
    const { change } = await to(2, "champion", { force: true });
    expect(change).toMatchObject({ from: 1, to: 2, forced: true, reason: expect.stringContaining("worse") });
    expect((await registry.history(id))[0]).toEqual(change);
  });

  it("keeps in the history that the two were measured on different rows", async () => {
    await register();
    await register(alteredFolder((manifest) => void (manifest.training_set.to_ms += 86_400_000)));
    await to(1);
    expect((await to(2)).change).toMatchObject({
      to: 2,
      forced: false,
      reason: expect.stringContaining("measured on different rows"),
    });
  });

  it("of a challenger and a shadow needs no gate; their versions leave the parts that they had", async () => {
    for (let i = 0; i < 3; i++) await register();
    await to(1);
    await to(2, "challenger", { share: 0.2 });
    await to(3, "shadow");
    expect(await registry.aliases(id)).toEqual({ champion: 1, challenger: 2, shadow: 3, share: 0.2, revision: 3 });
    await to(2);
    expect(await registry.aliases(id)).toMatchObject({ champion: 2, challenger: null, share: null });
    await retire(registry, id, { alias: "shadow", nowMs: 1, by: "test" });
    expect(await registry.aliases(id)).toMatchObject({ shadow: null, revision: 5 });
    expect(await registry.allAliases()).toEqual([{ ...id, aliases: await registry.aliases(id) }]);
  });

  it("rolls back step by step, until there is nothing to go back to", async () => {
    for (let i = 0; i < 3; i++) await register();
    for (const version of [1, 2, 3]) await to(version);
    const back = () => rollback(registry, id, { check: check(), nowMs: clock++, by: "test" });
    expect(await back()).toMatchObject({ kind: "rollback", from: 3, to: 2 });
    expect(await back()).toMatchObject({ from: 2, to: 1 });
    expect(await refusal(back())).toBe("rollback_impossible: model fraud had no champion before version 1");
  });

  it.each([
    ["an unknown version", () => to(9), "model_version_unknown: model fraud of tenant team-a has no version 9"],
    [
      "a share above 1",
      () => to(1, "challenger", { share: 1.5 }),
      "share_invalid: a share lies between 0 and 1, given 1.5",
    ],
    [
      "a share of the champion's, whose alias somebody forgot",
      () => to(1, "champion", { share: 0.1 }),
      "share_invalid: only a challenger gets a share, given 0.1 with alias champion",
    ],
    [
      "an empty alias taken away",
      () => retire(registry, id, { alias: "shadow", nowMs: 1, by: "" }),
      "alias_empty: model fraud has no shadow",
    ],
  ])("refuses %s", async (_, work, message) => {
    await register();
    expect(await refusal(work())).toBe(message);
  });

  it("refuses what stands already", async () => {
    await register();
    await to(1);
    expect(await refusal(to(1))).toBe("alias_standing: fraud-lightgbm@1 is champion already");
  });

  it.each(["challenger", "shadow"] as const)(
    "does not make the champion a %s: nobody would be champion",
    async (alias) => {
      for (let i = 0; i < 2; i++) await register();
      await to(1);
      expect(await refusal(to(1, alias))).toBe(
        `champion_needed: fraud-lightgbm@1 is champion, and as ${alias} it would leave model fraud without one`,
      );
      expect(await registry.aliases(id)).toMatchObject({ champion: 1, [alias]: null, revision: 1 });
      await to(2);
      expect(await refusal(to(1, alias))).toBe("done");
    },
  );

  it("of what could not serve is refused, by force too: the champion stays", async () => {
    for (let i = 0; i < 2; i++) await register();
    await to(1);
    await damage(2);
    // One after the other: what is refused before anybody waits for it would end the run.
    for (const work of [() => to(2), () => to(2, "champion", { force: true }), () => to(2, "shadow")]) {
      expect(await refusal(work())).toBe(
        "artefact_digest: model.onnx is not the file that its manifest names: its SHA-256 is another",
      );
    }
    const views = modelPlan.views.map((view) => ({ ...view, ttlMs: view.ttlMs + 1 }));
    await register();
    expect(await refusal(to(3, "champion", { check: check({ ...modelPlan, views }) }))).toContain(
      "model_plan_mismatch",
    );
    expect(await registry.aliases(id)).toMatchObject({ champion: 1, shadow: null, revision: 1 });
    expect(await registry.history(id)).toHaveLength(1);
  });

  it("does not roll back to what could not serve", async () => {
    for (let i = 0; i < 2; i++) await register();
    for (const version of [1, 2]) await to(version);
    await damage(1);
    expect(await refusal(rollback(registry, id, { check: check(), nowMs: 9, by: "test" }))).toContain(
      "artefact_digest",
    );
    expect(await registry.aliases(id)).toMatchObject({ champion: 2, revision: 2 });
  });

  it("of two that decide at once, one wins and the other is told", async () => {
    for (let i = 0; i < 2; i++) await register();
    const outcomes = await Promise.all([refusal(to(1)), refusal(to(2))]);
    const { champion, revision } = await registry.aliases(id);
    if (outcomes.every((outcome) => outcome === "done")) expect(revision).toBe(2);
    else {
      expect(outcomes.sort()).toEqual(["alias_conflict: the aliases of model fraud were changed meanwhile", "done"]);
      expect(revision).toBe(1);
    }
    expect((await registry.history(id))[0].to).toBe(champion);
  });

  it("decided on aliases of yesterday is refused, and leaves no history", async () => {
    for (let i = 0; i < 2; i++) await register();
    const { aliases, change } = await to(1);
    const { revision: _, ...same } = change;
    expect(await refusal(registry.change(id, aliases, same))).toContain("alias_conflict");
    expect(await registry.history(id)).toHaveLength(1);
  });
});
