/** Features of batch views are selected like any other: by name, by entity, by service. */
import { expect, it } from "vitest";
import { createCatalogue } from "../../../../functions/api/reading/selection.ts";
import { pushedPlan } from "../../../support/pushed-plan.ts";

const catalogue = createCatalogue(pushedPlan);
const risk = ["risk:n", "risk:rate", "risk:label", "risk:open"];

it("an entity has its batch views' features beside its windows", () => {
  expect(catalogue.entity("shop").names).toEqual(["activity:payments_1h", ...risk, "size:staff"]);
});

it("a service has them in its order, and one list of names reads both kinds of an entity at once", () => {
  expect(catalogue.service("buy").selection.parts).toMatchObject([
    { entity: "shop", joinKey: "shop", features: [...risk, "activity:payments_1h"] },
  ]);
  expect(catalogue.features(["size:staff", "activity:payments_1h"], "features").parts).toHaveLength(1);
});

it("a service that knows an entity from batch views alone needs its key: no event says that it may be absent", () => {
  const [service] = pushedPlan.services;
  const alone = { ...pushedPlan, services: [{ ...service, features: risk }] };
  expect(createCatalogue(alone).service("buy").selection.parts[0].required).toBe(true);
  // The events' own shop may be null, and then a request may lack it.
  expect(catalogue.service("buy").selection.parts[0].required).toBe(false);
});
