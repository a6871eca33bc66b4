import type { MetricDefinition } from "../../core/scoring/training.ts";

/** What SageMaker makes of a job's output: the newest number that each definition finds in a line. */
export function metricReader(definitions: readonly MetricDefinition[]) {
  const expressions = definitions.map(({ Name, Regex }) => [Name, new RegExp(Regex)] as const);
  const values = new Map<string, number>();
  return {
    values: values as ReadonlyMap<string, number>,
    see(line: string): void {
      for (const [name, expression] of expressions) {
        const found = expression.exec(line)?.[1];
        if (found !== undefined && Number.isFinite(Number(found))) values.set(name, Number(found));
      }
    },
  };
}
