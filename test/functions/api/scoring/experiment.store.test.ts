/** Who scores a request, and what the log keeps of it. */
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../../adapters/hash.ts";
import { fractionOf } from "../../../../core/scoring/variant.ts";
import { modelJson, modelPlan } from "../../../support/model-fixture.ts";
import { keysBody, openModelHost } from "./model-host.ts";

const host = openModelHost();
const { reader, start, score, register, give, recall, logged } = host;
const [service] = modelPlan.services;
const manifest = modelJson("manifest.json");

describe("an experiment", () => {
  const [{ joinKey }] = modelPlan.entities;
  const isChallengers = (id: string, share: number) => fractionOf(`fraud/${id}`, hash64) < share;

  it("gives each key its variant, by the share that the service declares or the alias overrules", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await give(2, "challenger");
    await start({ experiment: { key: joinKey, challenger: 0.3 } });
    const request = recall();
    const ids = Array.from({ length: 30 }, (_, i) => `x${i}`);
    const variants = async () =>
      Promise.all(ids.map(async (id) => (await score({ ...request, [joinKey]: id })).variant));
    const wanted = (share: number) => ids.map((id) => (isChallengers(id, share) ? "challenger" : "champion"));
    expect(await variants()).toEqual(wanted(0.3));
    await give(2, "challenger", { share: 0.8 });
    await host.serving.refresh();
    expect(await variants()).toEqual(wanted(0.8));
    const { variant, model_version } = await score({ ...request, [joinKey]: ids[0], variant: "challenger" });
    expect([variant, model_version]).toEqual(["challenger", "fraud-lightgbm@2"]);
    expect((await score({ ...request, variant: "fallback" })).model_version).toBe("rule-based-v1");
    const assigned = new Set((await logged()).map((row) => row.assigned));
    expect(assigned).toEqual(new Set(["hash", "request"]));
  });

  it("deals nothing to a request without its key, and does not log it as dealt", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await give(2, "challenger");
    const [text] = Object.entries(service.request).find(([, type]) => type === "string")!;
    await start({ experiment: { key: text, challenger: 1 } });
    const request = recall();
    const answers = [await score({ ...request, [text]: "SE" }), await score({ ...request, [text]: null })];
    expect(answers.map(({ variant }) => variant)).toEqual(["challenger", "champion"]);
    const rows = await logged();
    expect(rows.map(({ variant, assigned }) => [variant, assigned])).toEqual([
      ["challenger", "hash"],
      ["champion", "only"],
    ]);
  });

  it("does not return a shadow, and logs it", async () => {
    for (let i = 0; i < 2; i++) await register();
    await give(1);
    await give(2, "shadow");
    await start();
    const answer = await score(recall());
    expect(JSON.stringify(answer)).not.toContain("fraud-lightgbm@2");
    const [row] = await logged();
    expect(row).toMatchObject({
      model: "fraud-lightgbm@1",
      shadow: { model: "fraud-lightgbm@2", score: answer.score },
    });
  });
});

describe("the inference log", () => {
  it("has what went into a score, with pii hashed in every place", async () => {
    await give((await register()).version);
    const [text] = Object.entries(service.request).find(([, type]) => type === "string")!;
    const [amount] = Object.entries(service.request).find(([, type]) => type === "double")!;
    await start({ log: { sample: 1, pii: [text, amount] } });
    const request = { ...recall(), [text]: "Atlantis", [amount]: 1234.5 };
    const answer = await score(request);
    const rows = await logged();
    expect(rows).toHaveLength(1);
    const [row] = rows;
    expect(row).toMatchObject({
      tenant: host.tenant,
      service: "fraud",
      asOfMs: answer.as_of_ms,
      requestId: answer.request_id,
      planHash: modelPlan.hash,
      keys: keysBody,
      model: "fraud-lightgbm@1",
      variant: "champion",
      assigned: "only",
      score: answer.score,
      features: manifest.features.map(({ name }: any) => name),
    });
    const hashed = `sha256:${hash64("Atlantis")}`;
    expect(row.request[text]).toBe(hashed);
    const at = row.features.indexOf(`request:${text}`);
    expect([row.values[at], row.vector![at], row.vector![row.features.indexOf(`request:${amount}`)]]).toEqual([
      hashed,
      null,
      null,
    ]);
    expect(JSON.stringify(row)).not.toMatch(/Atlantis|1234\.5/);
    expect(row.statuses).toHaveLength(service.features.length);
    expect(row.values.slice(0, row.statuses.length)).toEqual(
      service.features.map(
        (name) =>
          reader.values.get(`${host.tenant}/${name.split("_")[0]}/${name.split("_")[0]}-1`)?.[name]?.value ?? null,
      ),
    );
  });

  it("samples by the request's id", async () => {
    await start({ log: { sample: 0.5, pii: [] } });
    const request = recall();
    const answers = [];
    for (let i = 0; i < 20; i++) answers.push(await score(request));
    const wanted = answers.filter(({ request_id }) => fractionOf(`${request_id}/0`, hash64) < 0.5);
    expect((await logged()).map(({ requestId }) => requestId).sort()).toEqual(
      wanted.map(({ request_id }) => request_id).sort(),
    );
  });

  it("is whole when the server has ended in order", async () => {
    await start();
    const request = recall();
    for (let i = 0; i < 5; i++) await score(request);
    await host.closeServer();
    expect(await logged()).toHaveLength(5);
    await start();
  });
});
