/** How a model comes into service and out of it: aliases, broken artefacts, and the registry over HTTP. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { conforming, type Reply } from "../contract/contract-calls.ts";
import { keysBody, openModelHost } from "./model-host.ts";

const host = openModelHost();
const { events, enter, start, call, score, register, give, spoil, recall } = host;

describe("promotion", () => {
  it("reaches serving within seconds; no request is dropped meanwhile, and none gets anything else", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    const request = recall();
    await start({}, 1_500);
    const seen: { model: string; status: number }[] = [];
    let isOver = false;
    const traffic = (async () => {
      while (!isOver) {
        const reply = await call("/v1/score/fraud", { body: { ...keysBody, ...request } });
        seen.push({ model: reply.body.model_version, status: reply.status });
        await sleep(5);
      }
    })();
    try {
      await expect.poll(() => seen.length).toBeGreaterThan(0);
      await give(2);
      await expect.poll(() => seen.at(-1)!.model).toBe("fraud-lightgbm@2");
    } finally {
      isOver = true;
      await traffic;
    }
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([200]));
    const models = seen.map(({ model }) => model);
    expect(models).toEqual([...models].sort());
    expect(new Set(models)).toEqual(new Set(["fraud-lightgbm@1", "fraud-lightgbm@2"]));
  });

  it("of a broken artefact is refused: the old model stays, and /ready says how many and why, the log which", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await start();
    await spoil(2, { "model.onnx": Buffer.from("broken") });
    await give(2);
    await host.serving.refresh();
    expect((await score(recall())).model_version).toBe("fraud-lightgbm@1");
    const ready = await call("/ready");
    expect([ready.status, ready.body.status]).toEqual([200, "degraded"]);
    expect(conforming(schemas.readyAnswer, ready).checks.models!.refused).toEqual({
      artefact_digest: 1,
    });
    // The page is open to all, so it names nothing of a tenant.
    expect(ready.body.reason).toBe(
      "1 of the models that aliases name are not served, artefact_digest; what served before goes on",
    );
    expect(events.filter(({ kind }) => kind === "refused")).toEqual([
      expect.objectContaining({ tenant: host.tenant, service: "fraud", model: "champion version 2" }),
    ]);
    expect((await call("/metrics")).body).toMatch(/^freshet_models_refused 1$/m);
    const { refused } = host.serving.state();
    expect(refused).toHaveLength(1);
  });

  it("of a first, broken one leaves the rules, degraded", async () => {
    await register();
    await spoil(1, { "trees.json": Buffer.from("{}") });
    await give(1);
    await start();
    expect(await score(recall())).toMatchObject({
      variant: "fallback",
      degraded: true,
      degraded_reason: "model_refused",
    });
  });

  it("of one tenant's model is nothing to another", async () => {
    await give((await register()).version);
    await start();
    const own = await score(recall());
    await enter(["score", "admin"]);
    const other = await score(recall());
    expect([own.variant, other.variant, other.degraded]).toEqual(["champion", "fallback", false]);
    expect(conforming(schemas.modelsAnswer, await call("/v1/models")).models[0].versions).toEqual([]);
  });
});

describe("the registry over HTTP", () => {
  const alias = (name: string, body: object, model = "fraud") => call(`/v1/models/${model}/aliases/${name}`, { body });

  it("lists, promotes, refuses by the gate, rolls back", async () => {
    await register({ pr_auc: 0.5 });
    await register({ pr_auc: 0.4 });
    await start();
    expect(conforming(schemas.aliasAnswer, await alias("champion", { version: 1 }))).toMatchObject({
      from: null,
      to: 1,
      forced: false,
    });
    const { models } = conforming(schemas.modelsAnswer, await call("/v1/models"));
    expect(models[0]).toMatchObject({
      name: "fraud",
      aliases: { champion: 1 },
      serving: { champion: "fraud-lightgbm@1" },
    });
    expect(models[0].versions.map(({ version }) => version)).toEqual([2, 1]);
    const refused = await alias("champion", { version: 2 });
    expect([refused.status, refused.body.code]).toEqual([409, "gate_refused"]);
    expect(refused.body.detail).toContain("pr_auc 0.4000 is 0.1000 (20.0 %) worse");
    expect(conforming(schemas.aliasAnswer, await alias("champion", { version: 2, force: true })).forced).toBe(true);
    expect(conforming(schemas.aliasAnswer, await alias("champion", { rollback: true }))).toMatchObject({
      from: 2,
      to: 1,
    });
    expect((await score(recall())).model_version).toBe("fraud-lightgbm@1");
    const own = host.audit.records.filter(({ tenant, action }) => tenant === host.tenant && action === "models.alias");
    expect(own.map(({ target, outcome }) => [target, outcome])).toEqual([
      ["models fraud champion: version none to 1", "done"],
      ["/v1/models/fraud/aliases/champion", "gate_refused"],
      ["models fraud champion: version 1 to 2, force over the gate", "done"],
      ["models fraud champion: rollback version 2 to 1", "done"],
    ]);
  });

  it("gives no alias to what could not serve, nor goes back to it", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await give(2);
    await spoil(1, { "trees.json": Buffer.from("{}") });
    await start();
    for (const body of [{ rollback: true }, { version: 1, force: true }]) {
      const refused = await alias("champion", body);
      expect([refused.status, refused.body.code, refused.body.reason]).toEqual([
        409,
        "model_unservable",
        "artefact_digest",
      ]);
      conforming(schemas.problem, refused);
    }
    expect((await host.registry.aliases({ tenant: host.tenant, service: "fraud" })).champion).toBe(2);
  });

  it.each<[string, () => Promise<Reply>, number, string]>([
    ["an unknown alias", () => alias("winner", { version: 1 }), 404, "alias_unknown"],
    ["an unknown model", () => alias("champion", { version: 1 }, "nothing"), 404, "service_unknown"],
    ["an unknown version", () => alias("champion", { version: 9 }), 404, "model_version_unknown"],
    ["no version", () => alias("champion", {}), 400, "wrong_type"],
    ["a rollback that is no yes or no", () => alias("champion", { rollback: "yes" }), 400, "wrong_type"],
    ["a rollback to a version", () => alias("champion", { rollback: true, version: "1" }), 400, "wrong_type"],
    ["a share above 1", () => alias("challenger", { version: 1, share: 2 }), 400, "share_invalid"],
    ["a share of a champion", () => alias("champion", { version: 1, share: 0.1 }), 400, "share_invalid"],
    ["an alias that is not given, taken away", () => alias("shadow", { version: null }), 409, "alias_empty"],
    ["a rollback without a champion", () => alias("champion", { rollback: true }), 409, "rollback_impossible"],
    [
      "a variant that nobody plays",
      () => call("/v1/score/fraud", { body: { ...keysBody, ...recall(), variant: "challenger" } }),
      409,
      "variant_absent",
    ],
    [
      "a variant of another name",
      () => call("/v1/score/fraud", { body: { ...keysBody, ...recall(), variant: "shadow" } }),
      400,
      "wrong_type",
    ],
    ["a batch without rows", () => call("/v1/score/fraud/batch", { body: {} }), 400, "field_missing"],
    [
      "a batch of too many rows",
      () => call("/v1/score/fraud/batch", { body: { rows: Array(101).fill({}) } }),
      400,
      "too_many_rows",
    ],
    [
      "a batch with a row that is none",
      () => call("/v1/score/fraud/batch", { body: { rows: [7] } }),
      400,
      "wrong_type",
    ],
    [
      "a batch with a wrong row",
      () => call("/v1/score/fraud/batch", { body: { rows: [{ ...keysBody }] } }),
      400,
      "field_missing",
    ],
  ])("%s is refused", async (_, work, status, code) => {
    await register();
    await start();
    const reply = await work();
    expect([reply.status, reply.body.code]).toEqual([status, code]);
    conforming(schemas.problem, reply);
  });

  it("what stands already is refused, and a key without admin may neither read nor change", async () => {
    await register();
    await start();
    await alias("champion", { version: 1 });
    expect((await alias("champion", { version: 1 })).body.code).toBe("alias_standing");
    expect((await alias("shadow", { version: 1 })).body.code).toBe("champion_needed");
    await enter(["score", "read"], host.tenant);
    expect([(await call("/v1/models")).status, (await alias("champion", { version: 1 })).status]).toEqual([403, 403]);
  });
});
