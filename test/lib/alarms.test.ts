import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { PUSHED_VALUES } from "../../core/retention.ts";
import { SEAL_MARGIN_MS } from "../../functions/shared/control-loop.ts";
import { metrics } from "../../functions/shared/observability.ts";
import { mskBroker } from "../../lib/brokers/msk.ts";
import { awsTarget } from "../../lib/targets/aws.ts";
import { fixturePlan, synthesize, synthesizeAws } from "./synthesized.ts";

const app = synthesizeAws("dev");
/** Alarms of Kafka beside them. */
const onKafka = synthesize(awsTarget({ broker: mskBroker("provisioned") }), "dev");
const runbook = readFileSync(new URL("../../docs/runbook.md", import.meta.url), "utf8");
const headings = [...runbook.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
const alarmsOf = (of: typeof app) => of.resources("AWS::CloudWatch::Alarm").map(([, { Properties }]) => Properties);
const named = new Set(alarmsOf(app).map(({ AlarmName }) => AlarmName));
const alarms = [...alarmsOf(app), ...alarmsOf(onKafka).filter(({ AlarmName }) => !named.has(AlarmName))];
const headingOf = (description: string) => /docs\/runbook\.md#(\S+)/.exec(description)?.[1];

test("every alarm has a heading in the runbook, and every heading an alarm", () => {
  expect([...new Set(alarms.map((alarm) => headingOf(alarm["AlarmDescription"])))].sort()).toEqual(
    [...headings].sort(),
  );
});

test("an alarm's name is the deployment, its heading and its stream, view or function", () => {
  const declared = [...fixturePlan.streams, ...fixturePlan.batchViews].map(({ name }) => name);
  const streams = [...declared, PUSHED_VALUES, "api", "ingest"].map((name) => name.replaceAll("_", "-"));
  for (const alarm of alarms) {
    const heading = headingOf(alarm["AlarmDescription"]);
    const names = [`freshet-dev-${heading}`, ...streams.map((stream) => `freshet-dev-${heading}-${stream}`)];
    expect(names).toContain(alarm["AlarmName"]);
  }
});

test("every runbook entry says what it means, where to look and how to repair it", () => {
  for (const entry of runbook.split(/^## /m).slice(1)) {
    for (const part of ["**Means.**", "**Look.**", "**Repair.**"]) expect(entry).toContain(part);
  }
});

test.each(alarms.map((alarm) => [alarm["AlarmName"], alarm]))(
  "%s says what silence means, and tells somebody",
  (_, alarm) => {
    expect(alarm["AlarmDescription"]).toMatch(/Without data: (breaching|notBreaching), because ./);
    expect(alarm["AlarmDescription"]).toContain(alarm["TreatMissingData"]);
    expect(alarm["AlarmActions"]).toHaveLength(1);
    expect(alarm["OKActions"]).toHaveLength(1);
  },
);

test("a stream that nobody reads raises the lag alarm, since each minute has a heartbeat", () => {
  const lag = alarms.filter((alarm) => alarm["AlarmName"].includes("stream-lag"));
  expect(lag.map((alarm) => alarm["TreatMissingData"])).toEqual(["breaching", "breaching"]);
});

test("a failover, a restore and a loss raise an alarm while nobody attends to them, and so does a silent control function", () => {
  const [alarm] = alarms.filter(({ AlarmName }) => AlarmName === "freshet-dev-store-state");
  expect(alarm).toMatchObject({
    MetricName: "BucketsNotOk",
    Threshold: 1,
    EvaluationPeriods: 3,
    DatapointsToAlarm: 3,
    Period: 60,
    TreatMissingData: "breaching",
  });
});

test("a seal may lag by lateness, timeout and margin, and a quarter of an hour more", () => {
  const lags = alarms.filter(({ AlarmName }) => AlarmName.startsWith("freshet-dev-seal-lag"));
  expect(lags.map(({ Threshold }) => Threshold)).toEqual(
    fixturePlan.streams.map(({ allowedLatenessMs }) => allowedLatenessMs + 60_000 + SEAL_MARGIN_MS + 900_000),
  );
});

test("each stream has an alarm of its own, on its own metric", () => {
  const applied = alarms.filter((alarm) => alarm["AlarmName"].includes("applies-blocked"));
  expect(applied.map((alarm) => alarm["Dimensions"])).toEqual(
    expect.arrayContaining(fixturePlan.streams.map(({ name }) => [{ Name: "stream", Value: name }])),
  );
});

test("a batch view whose runs nobody looks for raises its lateness, one that fails twice its failure", () => {
  const of = (name: string) => alarms.find(({ AlarmName }) => AlarmName === `freshet-dev-${name}-merchant-risk`);
  expect(of("view-late")).toMatchObject({
    MetricName: "ViewLateMs",
    Threshold: 3_600_000,
    TreatMissingData: "breaching",
  });
  expect(of("view-failed")).toMatchObject({ MetricName: "ViewRunFailures", Threshold: 1, EvaluationPeriods: 2 });
});

test("snapshots that have missed three rounds raise an alarm, and so do reads that the store does not answer", () => {
  const of = (name: string) => alarms.find(({ AlarmName }) => AlarmName === `freshet-dev-${name}`);
  expect(of("snapshot-late")).toMatchObject({
    MetricName: "SnapshotAgeMs",
    Threshold: 2_700_000,
    Period: 900,
    TreatMissingData: "breaching",
  });
  expect(of("reads-without-store")).toMatchObject({ MetricName: "ReadsWithoutStore", DatapointsToAlarm: 2 });
});

test("pushed values that stay away for half an hour raise an alarm, and so does one object that cannot be read", () => {
  const of = (name: string) => alarms.find(({ AlarmName }) => AlarmName === `freshet-dev-${name}`);
  expect(of("pushed-missing")).toMatchObject({
    ...{ MetricName: "PushedMissing", Statistic: "Minimum", Threshold: 1, Period: 900, EvaluationPeriods: 2 },
    TreatMissingData: "breaching",
  });
  expect(of("values-damaged")).toMatchObject({ MetricName: "ValuesDamaged", Statistic: "Sum", EvaluationPeriods: 1 });
});

test("limits that hosts decide alone raise an alarm for each function, lookups without a store one for ingest", () => {
  const of = (name: string) => alarms.find(({ AlarmName }) => AlarmName === `freshet-dev-${name}`);
  for (const name of ["api", "ingest"]) {
    expect(of(`limits-alone-${name}`)).toMatchObject({
      ...{ MetricName: "LimiterFallback", EvaluationPeriods: 3, DatapointsToAlarm: 3 },
      Dimensions: [{ Name: "service", Value: name }],
    });
  }
  expect(of("enrichment-unavailable")).toMatchObject({
    ...{ MetricName: "EnrichmentsUnavailable", DatapointsToAlarm: 3 },
    Dimensions: [{ Name: "service", Value: "ingest" }],
  });
});

test("an alarm's dimensions are those that the functions' metrics have", () => {
  metrics.addDimension("stream", "transactions");
  metrics.addMetric("ApplyBlocked", "Count", 1);
  const { _aws } = metrics.serializeMetrics();
  metrics.clearMetrics();
  const own = alarms.filter((alarm) => alarm["Namespace"] === "Freshet");
  const [{ Namespace, Dimensions }] = _aws.CloudWatchMetrics;
  expect([Namespace, Dimensions]).toEqual(["Freshet", [["stream"]]]);
  // Control writes of the store as a whole, the API of its models, each under its own name.
  const others = own.flatMap(({ Dimensions: [{ Name, Value }] }) => (Name === "stream" ? [] : [`${Name} ${Value}`]));
  expect([...new Set(others)].sort()).toEqual([
    "service api",
    "service control",
    "service erase",
    "service ingest",
    "service materialize",
    "service replay",
    "service snapshot",
    "service verify",
    "view merchant_risk",
  ]);
  for (const alarm of own) expect(alarm["Dimensions"]).toHaveLength(1);
  expect(own).not.toEqual([]);
});

test("the dashboard shows every metric that functions write, and all alarms", () => {
  const body = JSON.stringify(app.resources("AWS::CloudWatch::Dashboard")[0][1].Properties["DashboardBody"]);
  for (const metric of [
    ...["EventsIn", "Applied", "Duplicates", "Late", "Quarantined", "FreshnessMs", "IteratorLagMs", "ApplyBlocked"],
    ...["IdentityConflicts", "BucketsNotOk", "SealLagMs", "ScoreLatencyMs", "FeaturesMissing", "Degraded"],
    ...["ViewLagMs", "ViewRows", "ViewRunFailures"],
    ...["SnapshotAgeMs", "SnapshotsWritten", "ReadsWithoutStore", "FallbackMs", "BreakersOpened"],
    ...["RateLimited", "LimiterFallback", "EnrichmentsUnavailable", "PushedMissing", "ValuesDamaged"],
    "ErasureOldestMs",
  ]) {
    expect(body).toContain(`Freshet\\\\\\",\\\\\\"${metric}`.replaceAll("\\\\\\", "\\"));
  }
  expect(body.match(/Fn::GetAtt":\["Board/g)).toHaveLength(alarmsOf(app).length);
});

test("every error code that the runbook names is one that the code throws", () => {
  const named = [...new Set([...runbook.matchAll(/`([a-z]+(?:_[a-z]+)+)`/g)].map(([, code]) => code))];
  const sources = ["adapters", "core", "functions"].flatMap((folder) =>
    readdirSync(new URL(`../../${folder}`, import.meta.url), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .map((file) => readFileSync(new URL(`../../${folder}/${file}`, import.meta.url), "utf8")),
  );
  expect(named.length).toBeGreaterThan(5);
  expect(named.filter((code) => !sources.some((source) => source.includes(`"${code}"`)))).toEqual([]);
});

test("CloudWatch may publish to the alarms' topic and use its key, for alarms of this account", () => {
  const statements = [
    ...app.resources("AWS::SNS::TopicPolicy").flatMap(([, { Properties }]) => Properties["PolicyDocument"].Statement),
    ...app.resources("AWS::KMS::Key").flatMap(([, { Properties }]) => Properties["KeyPolicy"].Statement),
  ].filter(({ Principal }) => Principal?.Service === "cloudwatch.amazonaws.com");
  expect(statements.map(({ Action }) => Action)).toEqual(["sns:Publish", ["kms:Decrypt", "kms:GenerateDataKey"]]);
  for (const { Effect, Condition } of statements) {
    expect(Effect).toBe("Allow");
    expect(Condition.StringEquals).toEqual({ "aws:SourceAccount": { Ref: "AWS::AccountId" } });
  }
});

test("every metric that is watched is written by a function", () => {
  const folder = new URL("../../functions/", import.meta.url);
  const sources = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  const written = sources.flatMap((file) =>
    [...readFileSync(new URL(file, folder), "utf8").matchAll(/addMetric\(\s*"(\w+)"/g)].map(([, name]) => name),
  );
  const body = JSON.stringify(app.resources("AWS::CloudWatch::Dashboard")[0][1].Properties["DashboardBody"]);
  const shown = [...body.matchAll(/Freshet\W+(\w+)/g)].map(([, name]) => name);
  const alarmed = alarms.filter((alarm) => alarm["Namespace"] === "Freshet").map((alarm) => alarm["MetricName"]);
  expect(shown.length).toBeGreaterThan(10);
  expect([...new Set([...shown, ...alarmed])].filter((name) => !written.includes(name))).toEqual([]);
});
