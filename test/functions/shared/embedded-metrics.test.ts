import { expect, test } from "vitest";
import { metricData } from "../../../functions/shared/embedded-metrics.ts";

const line = (values: object, dimensions = [["stream"]], timestamp = 1_795_251_285_798) =>
  JSON.stringify({
    _aws: {
      Timestamp: timestamp,
      CloudWatchMetrics: [
        {
          Namespace: "Freshet",
          Dimensions: dimensions,
          Metrics: [{ Name: "Applied", Unit: "Count" }, { Name: "FreshnessMs" }],
        },
      ],
    },
    stream: "transactions",
    ...values,
  });
const second = new Date(1_795_251_285_000);
const dimension = [{ Name: "stream", Value: "transactions" }];

test("values of one second become one datum, counted by value", () => {
  expect(metricData([line({ Applied: 3 }), line({ Applied: 3 }), line({ Applied: 5 })])).toEqual([
    {
      namespace: "Freshet",
      data: [
        {
          MetricName: "Applied",
          Dimensions: dimension,
          Timestamp: second,
          Unit: "Count",
          Values: [3, 5],
          Counts: [2, 1],
        },
      ],
    },
  ]);
});

test("another second is another datum", () => {
  const [{ data }] = metricData([line({ Applied: 1 }), line({ Applied: 1 }, [["stream"]], 1_795_251_286_001)]);
  expect(data.map(({ Timestamp }) => Timestamp)).toEqual([second, new Date(1_795_251_286_000)]);
});

test("a metric may hold an array of values", () => {
  const [{ data }] = metricData([line({ FreshnessMs: [10, 20, 10] })]);
  expect(data).toEqual([
    { MetricName: "FreshnessMs", Dimensions: dimension, Timestamp: second, Values: [10, 20], Counts: [2, 1] },
  ]);
});

test("each set of dimensions is a series of its own, the empty one too", () => {
  const [{ data }] = metricData([line({ Applied: 3 }, [["stream"], []])]);
  expect(data.map(({ Dimensions }) => Dimensions)).toEqual([dimension, []]);
});

test("more than 150 distinct values become several data", () => {
  const [{ data }] = metricData([line({ FreshnessMs: Array.from({ length: 301 }, (_, i) => i) })]);
  expect(data.map(({ Values }) => Values?.length)).toEqual([150, 150, 1]);
});

test("more than 1,000 data become several calls", () => {
  const lines = Array.from({ length: 1_001 }, (_, i) =>
    line({ Applied: 1 }, [["stream"]], 1_795_251_285_000 + i * 1_000),
  );
  expect(metricData(lines).map(({ data }) => data.length)).toEqual([1_000, 1]);
});

test("the runtime's prefix of a log line is passed over", () => {
  const [{ data }] = metricData([`2026-11-21T08:54:45.804Z\t471a541f\tINFO\t${line({ Applied: 3 })}\n`]);
  expect(data[0].Values).toEqual([3]);
});

test.each([
  ["a plain line", "START RequestId: 471a541f Version: $LATEST"],
  ["another JSON line", '{"level":"INFO","message":"\\"_aws\\" is mentioned"}'],
  ["a line that was cut off", line({ Applied: 3 }).slice(0, 60)],
  ["a line without a time", line({ Applied: 3 }).replace("1795251285798", '"soon"')],
  ["a metric without a value", line({})],
  ["a metric that is no number", line({ Applied: "3" })],
])("%s gives no metric", (_, given) => {
  expect(metricData([given])).toEqual([]);
});
