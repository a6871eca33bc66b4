/** The codes of problems: each is documented, and caused by a test. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { InfrastructureError } from "../../../core/errors.ts";
import { orSuggest, PROBLEMS, suggest, toProblem } from "../../../functions/api/problems.ts";
import { badInputs } from "./contract/contract.ts";

it("the nearest name is suggested, else those that there are, and nothing beside another repair where there is none", () => {
  expect(suggest("profile:aeg", ["profile:age", "profile:city"])).toBe("did you mean profile:age?");
  expect(suggest("x", ["profile:age", "profile:city"])).toBe("use one of profile:age, profile:city");
  expect(orSuggest("x", ["profile:age"])).toBe("; or use one of profile:age");
  expect(orSuggest("x", [])).toBe("");
});

it("every code of the table is documented, and nothing else", () => {
  const page = readFileSync(new URL("../../../docs/api.md", import.meta.url), "utf8");
  const rows = [...page.matchAll(/^\| `([a-z_]+)` \| (\d{3}) \| (\S.*?) \|$/gm)].map(([, code, status]) => [
    code,
    +status,
  ]);
  expect(rows).toEqual(Object.entries(PROBLEMS).map(([code, { status }]) => [code, status]));
});

it("every code that a request can cause is caused by a test", () => {
  const elsewhere = [
    // load-gate.test.ts.
    "overloaded",
    // API Gateway's own: gateway.system.test.ts, and the template in test/lib/aws.test.ts.
    ...["request_refused", "integration_failure", "integration_timeout"],
    // Asked for by tests of their own: in the contract, app.test.ts, server.test.ts, and those of keys.
    ...["api_key_expired", "scope_missing", "body_too_large", "records_invalid", "service_without_model", "throttled"],
    ...[
      "broker_unavailable",
      "store_unavailable",
      "store_full",
      "keys_unavailable",
      "not_ready",
      "internal",
      "read_overtaken",
      "avro_invalid",
    ],
    // Only by Feast's contract: test/functions/api/feast/.
    ...["entities_uneven", "names_collide", "view_unknown", "request_data_missing"],
    ...["push_target_invalid", "push_source_unknown", "materialization_running", "materialization_failed"],
    // edge.store.test.ts.
    "body_incomplete",
    // enrich.test.ts.
    "field_enriched",
    // framed.test.ts.
    ...["schema_id_unknown", "schema_wrong_record", "schema_incompatible", "schema_unreadable", "framing_corrupt"],
    "schema_registry_unavailable",
    // contract-historical.ts.
    ...["job_unknown", "job_ended"],
    // quarantine.store.test.ts, quarantine.test.ts.
    ...["record_unknown", "quarantine_unavailable"],
    // jobs.test.ts, historical.store.test.ts.
    ...["jobs_unavailable", "too_many_jobs"],
    // admission.store.test.ts.
    ...["rate_limited", "quota_exceeded"],
    // audit.test.ts, key-routes.test.ts.
    ...["audit_unavailable", "scope_unknown", "key_name_invalid", "api_key_in_url", "scope_not_held", "key_unknown"],
    ...["key_not_live", "key_rotated", "rotation_pending", "last_admin_key", "too_many_keys"],
    // contract-pushed.ts; the last three in pushed.store.test.ts and tenant-features.test.ts.
    ...["feature_name_invalid", "feature_version_invalid", "dtype_unknown", "ttl_invalid", "deprecation_invalid"],
    ...[
      "value_type",
      "value_range",
      "row_shape",
      "entities_differ",
      "entity_erased",
      "feature_conflict",
      "feature_declared",
    ],
    // edge.store.test.ts.
    "url_encoding",
    // edge-bodies.store.test.ts.
    ...["body_coding", "content_encoding_unsupported"],
    // erasures.test.ts.
    ...["erasure_unknown", "erasures_unavailable"],
    ...["feature_limit", "archive_unavailable", "catalogue_busy", "catalogue_unavailable"],
    // Of models: promotion.store.test.ts; registry_unavailable in app.test.ts, alias_conflict in the registry's own test.
    ...["share_invalid", "alias_unknown", "model_version_unknown", "variant_absent", "gate_refused", "alias_conflict"],
    "model_unservable",
    ...["alias_standing", "champion_needed", "alias_empty", "rollback_impossible", "registry_unavailable"],
  ];
  const caused = new Set([...badInputs.map(({ code }) => code), ...elsewhere]);
  expect(Object.keys(PROBLEMS).filter((code) => !caused.has(code))).toEqual([]);
});

it("a store without memory is told from one that does not answer", () => {
  const full = toProblem(new InfrastructureError("store_full", "the online store has no memory left"));
  expect(full).toMatchObject({ code: "store_full", status: 503, headers: { "retry-after": "10" } });
  expect(full.message).toContain("what was to be written was not");
  expect(full.repair).toContain("reads and scores go on");
  const away = toProblem(new InfrastructureError("store_unavailable", "the online store does not answer"));
  expect(away).toMatchObject({ code: "store_unavailable", status: 503 });
});
