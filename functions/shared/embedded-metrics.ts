/**
 * Reads CloudWatch's embedded metric format (EMF), a JSON log line with values at its root and a description under `_aws`:
 * https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
 */
import type { Dimension, MetricDatum, StandardUnit } from "@aws-sdk/client-cloudwatch";

/** Bounds of one PutMetricData call: data in it, and distinct values of a datum. */
const MAX_DATA = 1_000;
const MAX_VALUES = 150;

interface Directive {
  readonly Namespace: string;
  readonly Dimensions: readonly (readonly string[])[];
  readonly Metrics: readonly { readonly Name: string; readonly Unit?: string }[];
}

interface Line {
  readonly _aws: { readonly Timestamp: number; readonly CloudWatchMetrics: readonly Directive[] };
  readonly [member: string]: unknown;
}

export interface PutCall {
  readonly namespace: string;
  readonly data: MetricDatum[];
}

/**
 * The calls that put all metrics of some log lines. Values of one metric, dimensions and second become one datum; a line
 * that is not EMF is passed over, since it is a log like any other.
 */
export function metricData(lines: readonly string[]): PutCall[] {
  const series = new Map<string, { namespace: string; datum: MetricDatum; counts: Map<number, number> }>();
  for (const line of lines.map(parse)) {
    if (line === null) continue;
    const second = Math.floor(line._aws.Timestamp / 1_000);
    for (const { Namespace: namespace, Dimensions: sets, Metrics: metrics } of line._aws.CloudWatchMetrics) {
      for (const { Name: name, Unit: unit } of metrics) {
        for (const dimensions of sets.map((set) => dimensionsOf(line, set))) {
          const key = JSON.stringify([namespace, name, dimensions, second]);
          let entry = series.get(key);
          if (entry === undefined) {
            const datum = {
              MetricName: name,
              Dimensions: dimensions,
              Timestamp: new Date(second * 1_000),
              Unit: unit as StandardUnit | undefined,
            };
            entry = { namespace, datum, counts: new Map() };
            series.set(key, entry);
          }
          for (const value of numbersOf(line[name])) entry.counts.set(value, (entry.counts.get(value) ?? 0) + 1);
        }
      }
    }
  }
  const byNamespace = new Map<string, MetricDatum[]>();
  for (const { namespace, datum, counts } of series.values()) {
    const data = byNamespace.get(namespace) ?? [];
    byNamespace.set(namespace, data);
    for (const part of chunks([...counts], MAX_VALUES)) {
      data.push({ ...datum, Values: part.map(([value]) => value), Counts: part.map(([, count]) => count) });
    }
  }
  return [...byNamespace].flatMap(([namespace, data]) =>
    chunks(data, MAX_DATA).map((part) => ({ namespace, data: part })),
  );
}

/** Lambda's text format puts time, request id and level before what `console.log` was given. */
function parse(line: string): Line | null {
  const start = line.indexOf("{");
  if (start < 0) return null;
  try {
    const value = JSON.parse(line.slice(start));
    return Array.isArray(value?._aws?.CloudWatchMetrics) && Number.isFinite(value._aws.Timestamp) ? value : null;
  } catch {
    return null;
  }
}

const dimensionsOf = (line: Line, set: readonly string[]): Dimension[] =>
  set.map((name) => ({ Name: name, Value: String(line[name]) }));

/** A metric's member is a number or an array of them. */
const numbersOf = (value: unknown): number[] =>
  (Array.isArray(value) ? value : [value]).filter((item): item is number => Number.isFinite(item));

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}
