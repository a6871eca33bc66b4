/** What a host knows of tenants' registrations: how old it may be, what a flood costs, and what an outage leaves. */
import { describe, expect, it } from "vitest";
import type { TenantRegistrations } from "../../../../adapters/pushed/feature-registry.ts";
import type { PushedFeature } from "../../../../core/pushed-feature.ts";
import { createCatalogue } from "../../../../functions/api/reading/selection.ts";
import { selectFeatures } from "../../../../functions/api/reading/tenant-selection.ts";
import { createRegisteredFeatures } from "../../../../functions/api/registered/tenant-features.ts";
import { plan } from "../doubles.ts";

const feature = (key: string, more: Partial<PushedFeature> = {}): PushedFeature => ({
  ...{ view: "profile", key, version: 1, entity: "card", dtype: "double", ttlMs: 1_000, id: 0, registeredMs: 0 },
  ...{ description: "", unit: "", owner: "", tags: [], deprecated: null, ...more },
});

function world() {
  const tenants = new Map<string, PushedFeature[]>();
  const state = { nowMs: 1_000_000, loads: [] as string[], broken: false, hangs: false };
  const registered = createRegisteredFeatures(
    async (tenant, known): Promise<TenantRegistrations | null> => {
      state.loads.push(tenant);
      if (state.hangs) await new Promise(() => {});
      if (state.broken) throw new Error("the table does not answer");
      const features = tenants.get(tenant) ?? [];
      if (features.length === known) return null;
      const current = new Map(features.map(({ view, key }) => [`${view}:${key}`, 1]));
      return { revision: features.length, features, current };
    },
    plan,
    () => state.nowMs,
  );
  const catalogue = createCatalogue(plan);
  const select = async (tenant: string, ...names: string[]) =>
    (await selectFeatures(catalogue, registered, tenant, names, "features")).names;
  return { tenants, state, registered, select };
}

describe("registered features on a host", () => {
  it("declared features ask no table at all", async () => {
    const { state, select } = world();
    for (let i = 0; i < 3; i++) await select("a", "card_activity:tx_count_1h", "card_activity:last_country");
    expect(state.loads).toEqual([]);
  });

  it("a flood of unknown names costs a look each two seconds, and no other tenant any", async () => {
    const { tenants, state, select } = world();
    tenants.set("b", [feature("age")]);
    await select("b", "profile:age");
    for (let i = 0; i < 500; i++) {
      state.nowMs += 10;
      await expect(select("a", `none:f${i}`)).rejects.toMatchObject({ code: "feature_unknown" });
    }
    expect(state.loads.filter((tenant) => tenant === "a").length).toBeLessThanOrEqual(4);
    expect(state.loads.filter((tenant) => tenant === "b")).toHaveLength(1);
  });

  it("what another host registers is known within seconds: at once where nothing was known, after two where a name was missed", async () => {
    const { tenants, state, select } = world();
    await expect(select("a", "profile:age")).rejects.toMatchObject({ code: "feature_unknown", field: "features[0]" });
    tenants.set("a", [feature("age")]);
    state.nowMs += 1_000;
    await expect(select("a", "profile:age")).rejects.toMatchObject({ code: "feature_unknown" });
    state.nowMs += 1_000;
    expect(await select("a", "profile:age", "profile:age@1")).toEqual(["profile:age", "profile:age@1"]);
    expect(await select("b", "card_activity:tx_count_1h")).toHaveLength(1);
  });

  it("what is known stays so while the table does not answer, and the table is not waited for again and again", async () => {
    const { tenants, state, select } = world();
    tenants.set("a", [feature("age")]);
    await select("a", "profile:age");
    state.broken = true;
    state.nowMs += 60_000;
    const before = state.loads.length;
    for (let i = 0; i < 20; i++) expect(await select("a", "profile:age")).toEqual(["profile:age"]);
    expect(state.loads.length - before).toBe(1);
    const unknown = { code: "catalogue_unavailable", status: 503 };
    await expect(select("new", "profile:age")).rejects.toMatchObject(unknown);
    await expect(select("new", "profile:age")).rejects.toMatchObject(unknown);
    expect(state.loads.length - before).toBe(2);
    state.broken = false;
    state.nowMs += 2_000;
    await expect(select("new", "profile:age")).rejects.toMatchObject({ code: "feature_unknown" });
  });

  it("a table that hangs holds up those who come with its first question, and nobody after them", async () => {
    const { tenants, state, registered } = world();
    tenants.set("a", [feature("age")]);
    const known = await registered.of("a");
    state.hangs = true;
    state.nowMs += 60_000;
    expect(registered.of("a")).toBeInstanceOf(Promise);
    state.nowMs += 99;
    expect(registered.of("a")).toBeInstanceOf(Promise);
    state.nowMs += 1;
    expect(registered.of("a")).toBe(known);
    expect(state.loads).toEqual(["a", "a"]);
  });

  it("those it holds up go on with what is known, and a name that is not known is told so in the end", async () => {
    const { tenants, state, registered, select } = world();
    tenants.set("a", [feature("age")]);
    const known = await registered.of("a");
    state.hangs = true;
    state.nowMs += 60_000;
    expect(await registered.of("a")).toBe(known);
    const unknown = { code: "catalogue_unavailable", status: 503 };
    await expect(select("a", "profile:size")).rejects.toMatchObject(unknown);
    await expect(select("new", "profile:age")).rejects.toMatchObject(unknown);
    expect(state.loads).toEqual(["a", "a", "new"]);
  });

  it("an outage that is known of holds up nobody, and names that are not known ask once each two seconds", async () => {
    const { tenants, state, registered, select } = world();
    tenants.set("a", [feature("age")]);
    const known = await registered.of("a");
    state.broken = true;
    state.nowMs += 60_000;
    await registered.of("a");
    const before = state.loads.length;
    for (let i = 0; i < 10; i++) {
      state.nowMs += 1_000;
      expect(registered.of("a")).toBe(known);
      await expect(select("a", "profile:size")).rejects.toMatchObject({ code: "catalogue_unavailable" });
    }
    expect(state.loads.length - before).toBe(5);
    tenants.set("a", [feature("age"), feature("size", { id: 1 })]);
    state.broken = false;
    state.nowMs += 2_000;
    expect(await select("a", "profile:size")).toEqual(["profile:size"]);
  });

  it("a feature whose entity is declared no more is known no more", async () => {
    const { tenants, select } = world();
    tenants.set("a", [feature("age", { entity: "planet" }), feature("size", { id: 1 })]);
    expect(await select("a", "profile:size")).toEqual(["profile:size"]);
    await expect(select("a", "profile:age")).rejects.toMatchObject({
      code: "feature_unknown",
      repair: "did you mean profile:size?",
    });
  });
});
