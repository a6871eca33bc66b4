/** Serving over a registry that can be told what to say; artefacts are real. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { createModelServing, type ModelServing, type ServingEvent } from "../../../adapters/model/serving.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import { type Aliases, NO_ALIASES } from "../../../core/scoring/aliases.ts";
import { vectorHash } from "../../../core/scoring/vector.ts";
import { modelFiles, modelPlan } from "../../support/model-fixture.ts";

const own = vectorHash(modelPlan, modelPlan.services[0], hash64);
let nowMs: number;
let aliases: Partial<Aliases>;
let service: string;
let down: boolean;
let hashOf: (version: number) => string;
let refuse: (version: number) => Error | null;
let loads: number[];
let events: ServingEvent[];
let serving: ModelServing;

const away = () => new InfrastructureError("registry_unavailable", "no answer");
const registry: any = {
  async allAliases() {
    if (down) throw away();
    return [{ tenant: "t", service, aliases: { ...NO_ALIASES, ...aliases } }];
  },
  get: async ({ tenant }: any, version: number) => ({
    tenant,
    service,
    version,
    model: "m",
    vectorHash: hashOf(version),
  }),
  async files({ version }: any) {
    loads.push(version);
    const error = refuse(version);
    if (error !== null) throw error;
    return modelFiles;
  },
};
const names = () => {
  const { champion, challenger, shadow } = serving.served("t", "fraud");
  return [champion, challenger, shadow].map((one) => one?.name ?? null);
};
const broken = () => new FreshetError("artefact_digest", "another file");

beforeEach(() => {
  [nowMs, aliases, service, down, loads, events] = [0, {}, "fraud", false, [], []];
  hashOf = () => own;
  refuse = () => null;
  serving = createModelServing({
    registry,
    plan: modelPlan,
    clock: () => nowMs,
    pollMs: null,
    onEvent: (one) => events.push(one),
  });
});
afterEach(() => serving.close());

describe("serving", () => {
  it("is of nobody where no alias is given, and unknown before the first look", async () => {
    expect(serving.served("t", "fraud").fault).toBe("models_unavailable");
    down = true;
    await serving.refresh();
    expect([serving.served("t", "fraud").fault, serving.state().polledMs]).toEqual(["models_unavailable", null]);
    down = false;
    await serving.refresh();
    expect([serving.served("t", "fraud").fault, serving.served("other", "fraud").fault]).toEqual([null, null]);
  });

  it("follows the aliases, and loads each version once", async () => {
    aliases = { champion: 1, challenger: 2, shadow: 3, share: 0.2 };
    await serving.refresh();
    expect(names()).toEqual(["m@1", "m@2", "m@3"]);
    expect(serving.served("t", "fraud").share).toBe(0.2);
    aliases = { champion: 2, shadow: 3 };
    await serving.refresh();
    expect([names(), loads]).toEqual([
      ["m@2", null, "m@3"],
      [1, 2, 3],
    ]);
  });

  it("goes on with what it has while the registry is away", async () => {
    aliases = { champion: 1 };
    await serving.refresh();
    down = true;
    await serving.refresh();
    expect(names()[0]).toBe("m@1");
    expect(events.at(-1)).toMatchObject({ kind: "unavailable" });
  });

  it("keeps the old model when the new one is refused, and looks at it again a minute later", async () => {
    aliases = { champion: 1 };
    await serving.refresh();
    aliases = { champion: 2 };
    refuse = (version) => (version === 2 ? broken() : null);
    for (const at of [1_000, 30_000, 60_999]) {
      nowMs = at;
      await serving.refresh();
    }
    expect([names()[0], loads]).toEqual(["m@1", [1, 2]]);
    expect(serving.state().refused).toEqual([
      { service: "fraud", alias: "champion", model: "version 2", code: "artefact_digest" },
    ]);
    refuse = () => null;
    nowMs = 61_000;
    await serving.refresh();
    expect([names()[0], serving.state().refused]).toEqual(["m@2", []]);
  });

  it("tries what was only out of reach at every look", async () => {
    aliases = { champion: 1 };
    refuse = () => away();
    nowMs = 100_000;
    await serving.refresh();
    expect(serving.served("t", "fraud")).toMatchObject({ champion: null, fault: "models_unavailable" });
    refuse = () => null;
    nowMs += 1;
    await serving.refresh();
    expect(names()[0]).toBe("m@1");
  });

  it("refuses a model whose features mean something else under this plan", async () => {
    aliases = { champion: 1 };
    hashOf = () => "another";
    await serving.refresh();
    expect(serving.served("t", "fraud")).toMatchObject({ champion: null, fault: "model_refused" });
    expect(serving.state().refused[0].code).toBe("model_plan_mismatch");
    expect(loads).toEqual([]);
  });

  it("passes over models of services that the plan does not have", async () => {
    service = "gone";
    aliases = { champion: 1 };
    await serving.refresh();
    expect([serving.state().loaded, events]).toEqual([0, []]);
  });

  it("keeps a replaced model warm for half a minute, then frees it", async () => {
    aliases = { champion: 1 };
    await serving.refresh();
    aliases = { champion: 2 };
    await serving.refresh();
    expect(serving.state().loaded).toBe(2);
    aliases = { champion: 1 };
    nowMs = 29_999;
    await serving.refresh();
    expect([names()[0], loads]).toEqual(["m@1", [1, 2]]);
    nowMs = 60_000;
    await serving.refresh();
    expect(serving.state().loaded).toBe(1);
    const [score] = await serving.served("t", "fraud").champion!.model.score([new Float64Array(31)]);
    expect(score.probability).toBeGreaterThan(0);
  });

  it("looks again, consistently, when it is told to while a look is under way: that one may have begun too early", async () => {
    const { allAliases } = registry;
    const consistent: boolean[] = [];
    let answer = () => {};
    registry.allAliases = async (isConsistent: boolean) => {
      consistent.push(isConsistent);
      const found = await allAliases();
      if (consistent.length === 1) await new Promise<void>((resolve) => (answer = resolve));
      return found;
    };
    aliases = { champion: 1 };
    const early = serving.refreshIfOlder(0);
    await new Promise(setImmediate);
    aliases = { champion: 2 };
    const told = [serving.refresh(), serving.refresh()];
    answer();
    await early;
    expect(names()[0]).toBe("m@1");
    await Promise.all(told);
    registry.allAliases = allAliases;
    expect([names()[0], consistent]).toEqual(["m@2", [false, true]]);
  });

  it("looks again only when its last attempt is old enough, also when that one failed", async () => {
    let looks = 0;
    const { allAliases } = registry;
    registry.allAliases = () => {
      looks++;
      return allAliases();
    };
    down = true;
    for (nowMs of [0, 3_999, 4_001, 8_001, 8_002]) await serving.refreshIfOlder(4_000);
    registry.allAliases = allAliases;
    expect(looks).toBe(3);
  });
});
