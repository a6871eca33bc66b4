/** What `test/feast/feature_repo.py` declares in Feast's words: two views of values that are given as they are, and two services. */
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import { contracts, payments } from "./fixture-plan.ts";

const driver = d.entity("driver", { joinKey: "driver_id" as string });
const rider = d.entity("rider", { joinKey: "rider_id" as string });
const options = { every: "1h", ttl: "1h", owner: "rides" } as const;
const driverStats = d.batchFeatureView("driver_stats", {
  ...options,
  entity: driver,
  sql: "SELECT card AS driver_id, event_time_ms, 1.0 AS conv_rate, 1 AS trips, country AS city, online AS active FROM payments",
  features: { conv_rate: "double", trips: "long", city: "string", active: "boolean" },
});
const riderStats = d.batchFeatureView("rider_stats", {
  ...options,
  entity: rider,
  sql: "SELECT shop AS rider_id, event_time_ms, amount AS spend, 1 AS trips FROM payments",
  features: { spend: "double", trips: "long" },
});
const ride = d.featureService("ride", {
  features: [driverStats.only("conv_rate", "city"), riderStats.only("spend")],
  request: { surge: "double" },
  onDemand: {
    price: ({ request, f }) => {
      const rate = f("driver_stats:conv_rate");
      return typeof rate === "number" && request.surge !== null ? rate * request.surge : null;
    },
  },
  task: "binary",
});
const plain = d.featureService("plain", {
  features: [driverStats, riderStats.only("spend")],
  request: {},
  task: "binary",
});

export const rideServices = [ride, plain];
export const { plan: ridePlan } = compile(
  {
    entities: [driver, rider],
    streams: [payments],
    views: [],
    batchViews: [driverStats, riderStats],
    services: rideServices,
  },
  contracts,
  EMPTY_LOCK,
  hash64,
);
