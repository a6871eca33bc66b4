/** The archive's retention, its tables for Athena, and what compaction may do. */
import { describe, expect, test } from "vitest";
import type { Plan, View } from "../../core/plan.ts";
import { requireRetention } from "../../core/retention.ts";
import { plan } from "../../features/plan.ts";
import { allStages } from "../../lib/stage.ts";
import { fixturePlan, synthesizeAws, synthesizeLocal } from "./synthesized.ts";

const app = synthesizeAws("prod");

describe("retention", () => {
  const view = { ...plan.views[0]!, name: "v", stream: "transactions", reachMs: 30 * 86_400_000 } satisfies View;
  const of = (reachMs: number | null): Plan => ({ ...fixturePlan, views: [{ ...view, reachMs }] });

  test("shorter than window, delay and lateness is refused with what is needed", () => {
    expect(() => requireRetention(of(view.reachMs), 30, "dev")).toThrow(
      "view v reaches 31 days back, with its stream's lateness, and the archive of stage dev keeps 30",
    );
    expect(() => requireRetention(of(view.reachMs), 31, "dev")).not.toThrow();
  });

  test("of none, or for lifetime windows alone, is enough", () => {
    expect(() => requireRetention(of(view.reachMs), null, "dev")).not.toThrow();
    expect(() => requireRetention(of(null), 1, "dev")).not.toThrow();
  });

  test.each(allStages)("of stage $name suits the features as they are", ({ name, archive }) => {
    expect(() => requireRetention(plan, archive.retentionDays, name)).not.toThrow();
  });

  test("removes archive objects and logged scores, in production none, and what historical jobs made after a week", () => {
    const rules = (stage: "dev" | "prod") =>
      synthesizeAws(stage)
        .resources("AWS::S3::Bucket")
        .filter(([id]) => id.includes("/Archive"))
        .flatMap(([, { Properties }]) => Properties["LifecycleConfiguration"].Rules)
        .filter((rule: any) => rule.ExpirationInDays !== undefined)
        .map((rule: any) => [rule.Prefix, rule.ExpirationInDays]);
    expect(rules("dev")).toEqual([
      ["raw/", 400],
      ["compacted/", 400],
      ["inference-log/", 400],
      ["historical/", 8],
      ["athena", 2],
    ]);
    expect(rules("prod")).toEqual([
      ["historical/", 8],
      ["athena", 2],
    ]);
  });

  test("is known to what builds from it, so that no lifetime is built from a part", () => {
    const environment = (stage: "dev" | "prod") =>
      synthesizeAws(stage)
        .resources("AWS::Lambda::Function")
        .find(([, { Properties }]) => Properties["FunctionName"] === `freshet-${stage}-build`)![1].Properties[
        "Environment"
      ].Variables;
    expect(environment("dev")["FRESHET_ARCHIVE_RETENTION_DAYS"]).toBe("400");
    expect(environment("prod")["FRESHET_ARCHIVE_RETENTION_DAYS"]).toBeUndefined();
  });
});

describe("tables", () => {
  const tables = app.resources("AWS::Glue::Table").map(([, { Properties }]) => Properties["TableInput"]);

  test("there are two for each stream and one of jobs' ids, in one database of the deployment", () => {
    expect(tables.map(({ Name }) => Name).sort()).toEqual(
      ["job_keys", ...fixturePlan.streams.flatMap(({ name }) => [`compacted_${name}`, `raw_${name}`])].sort(),
    );
    expect(app.resources("AWS::Glue::Database").map(([, { Properties }]) => Properties["DatabaseInput"].Name)).toEqual([
      "freshet_prod_archive",
    ]);
  });

  test.each(["raw", "compacted"])(
    "%s: partitions are projected where the objects lie, and a query has to name its tenant",
    (kind) => {
      const table = tables.find(({ Name }) => Name === `${kind}_transactions`);
      expect(table.PartitionKeys.map(({ Name }: any) => Name)).toEqual(["tenant", "dt", "hh"]);
      expect(table.Parameters).toMatchObject({
        "projection.enabled": "true",
        "projection.tenant.type": "injected",
        "projection.dt.type": "date",
        "projection.hh.digits": "2",
      });
      expect(JSON.stringify(table.Parameters["storage.location.template"])).toContain(
        `/${kind}/tenant=\${tenant}/stream=transactions/dt=\${dt}/hh=\${hh}/`,
      );
    },
  );

  test("have the columns of the relation that DuckDB is given", () => {
    const table = tables.find(({ Name }) => Name === "compacted_transactions");
    expect(table.StorageDescriptor.Columns.map(({ Name, Type }: any) => `${Name} ${Type}`)).toEqual([
      "event_id string",
      "event_time_ms bigint",
      "identity string",
      "arrival_ms bigint",
      "shard string",
      "sequence string",
      "sub_sequence int",
      "reason string",
      "fields struct<>",
      "fates array<struct<entity:string,id:string,fate:string,visible_ms:bigint>>",
    ]);
  });

  test("are AWS's alone: the laptop's DuckDB needs no catalogue", () => {
    expect(synthesizeLocal().resources(/^AWS::Glue::/)).toEqual([]);
  });
});

describe("queries of jobs", () => {
  const group = app.named("AWS::Athena::WorkGroup", "Name", "freshet-prod-archive").Properties[
    "WorkGroupConfiguration"
  ];

  test("are bounded in what they scan, encrypted with the archive's key, and cannot choose otherwise", () => {
    expect(group).toMatchObject({
      EnforceWorkGroupConfiguration: true,
      BytesScannedCutoffPerQuery: 2_000_000_000_000,
      ResultConfiguration: { EncryptionConfiguration: { EncryptionOption: "SSE_KMS" } },
    });
    expect(JSON.stringify(group.ResultConfiguration)).toContain("/athena/results/");
  });

  test("name their tenant, job and kind of ids", () => {
    const keys = app
      .resources("AWS::Glue::Table")
      .map(([, { Properties }]) => Properties["TableInput"])
      .find(({ Name }) => Name === "job_keys");
    expect(keys.Parameters).toMatchObject({
      "projection.tenant.type": "injected",
      "projection.job.type": "injected",
      "projection.kind.type": "injected",
    });
    expect(JSON.stringify(keys.Parameters["storage.location.template"])).toContain(
      `/athena-keys/tenant=\${tenant}/job=\${job}/kind=\${kind}/`,
    );
  });

  test.each(["historical", "training-set"])(
    "%s: runs them in that group, over that catalogue, and writes to their folders",
    (name) => {
      const variables = app.named("AWS::Lambda::Function", "FunctionName", `freshet-prod-${name}`).Properties[
        "Environment"
      ].Variables;
      expect(variables).toMatchObject({
        FRESHET_ATHENA_DATABASE: "freshet_prod_archive",
        FRESHET_ATHENA_WORK_GROUP: "freshet-prod-archive",
        FRESHET_ARCHIVE_ENGINE: "auto",
      });
      const statements = app
        .resources("AWS::IAM::Policy")
        .filter(([id]) => id.includes(name === "historical" ? "offline/Historical" : "training/Build"))
        .flatMap(([, { Properties }]) => Properties["PolicyDocument"].Statement);
      const of = (action: string) =>
        JSON.stringify(
          statements.filter(({ Action }: any) => [Action].flat().includes(action)).map((each: any) => each.Resource),
        );
      expect(of("athena:StartQueryExecution")).toContain(":workgroup/freshet-prod-archive");
      expect(of("athena:StartQueryExecution")).not.toContain("*");
      expect(of("glue:GetTable")).toContain(":table/freshet_prod_archive/compacted_transactions");
      expect(of("glue:GetTable")).not.toContain("*");
      for (const folder of ["athena", "athena-keys"]) expect(of("s3:DeleteObject")).toContain(`/${folder}/*`);
      expect(of("s3:DeleteObject")).not.toMatch(/raw|compacted|values/);
      // What a cancelled job has left.
      expect(of("s3:DeleteObject").includes("/historical/*")).toBe(name === "historical");
    },
  );
});

describe("compaction", () => {
  const statements = app
    .resources("AWS::IAM::Policy")
    .filter(([id]) => id.startsWith("offline/"))
    .flatMap(([, { Properties }]) => Properties["PolicyDocument"].Statement);
  const may = (action: string) =>
    JSON.stringify(
      statements.filter(({ Action }: any) => [Action].flat().includes(action)).map(({ Resource }: any) => Resource),
    );

  test("removes from the three folders that it manages, and writes no raw object", () => {
    for (const folder of ["raw", "compacted", "compaction"]) expect(may("s3:DeleteObject")).toContain(`/${folder}/*`);
    expect(may("s3:PutObject")).not.toContain("/raw/*");
    for (const action of ["s3:DeleteObject", "s3:PutObject"]) expect(may(action)).toContain("/values/*");
    expect(may("s3:DeleteObject")).not.toMatch(/inference-log|quarantine/);
  });

  test("knows for how long training sets may reach back, where that has an end", () => {
    const told = (stage: "dev" | "prod") =>
      synthesizeAws(stage).named("AWS::Lambda::Function", "FunctionName", `freshet-${stage}-compact`).Properties[
        "Environment"
      ].Variables["FRESHET_ARCHIVE_RETENTION_DAYS"];
    expect([told("dev"), told("prod")]).toEqual(["400", undefined]);
  });

  test("is run each hour with room on the disk, and told the grace", () => {
    const fn = app.named("AWS::Lambda::Function", "FunctionName", "freshet-prod-compact").Properties;
    expect(fn["EphemeralStorage"]).toEqual({ Size: 10_240 });
    expect(fn["Environment"].Variables["FRESHET_ARCHIVE_GRACE_MS"]).toBe(String(24 * 3_600_000));
    expect(app.named("AWS::Events::Rule", "Name", "freshet-prod-compact").Properties["ScheduleExpression"]).toBe(
      "rate(1 hour)",
    );
  });

  test("has a grace longer than any run: its own, a query's", () => {
    for (const { archive } of allStages) expect(archive.graceHours).toBeGreaterThanOrEqual(12);
  });
});
