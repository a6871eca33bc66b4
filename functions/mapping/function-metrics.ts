/** Metrics that the function writes into its log, in the embedded metric format, summed up for whoever scrapes them where there is no CloudWatch. */

/** As much of a document as is read. */
interface Document {
  readonly _aws: {
    readonly CloudWatchMetrics: readonly {
      readonly Dimensions: readonly (readonly string[])[];
      readonly Metrics: readonly { readonly Name: string; readonly Unit?: string }[];
    }[];
  };
  readonly [member: string]: unknown;
}

/** Of a duration the newest is shown; counts are summed up. */
export class FunctionMetrics {
  readonly #values = new Map<string, { readonly isTime: boolean; values: Map<string, number> }>();

  /** @returns whether the line was a document of metrics */
  take(line: string): boolean {
    if (!line.startsWith("{") || !line.includes('"_aws"')) return false;
    let document: Document;
    try {
      document = JSON.parse(line) as Document;
    } catch {
      return false;
    }
    for (const { Dimensions, Metrics } of document._aws?.CloudWatchMetrics ?? []) {
      const labels = (Dimensions[0] ?? []).map((name) => `${name}="${String(document[name])}"`).join(",");
      for (const { Name, Unit } of Metrics) {
        const found = document[Name];
        const numbers = (Array.isArray(found) ? found : [found]).filter((value) => typeof value === "number");
        const isTime = Unit === "Milliseconds";
        const known = this.#values.get(Name) ?? { isTime, values: new Map() };
        this.#values.set(Name, known);
        const sum = numbers.reduce((total, value) => total + value, 0);
        const last = numbers.at(-1);
        if (!isTime) known.values.set(labels, (known.values.get(labels) ?? 0) + sum);
        else if (last !== undefined) known.values.set(labels, last);
      }
    }
    return true;
  }

  text(): string {
    return [...this.#values]
      .map(([metric, { isTime, values }]) => {
        const name = `freshet_${metric.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase()}${isTime ? "" : "_total"}`;
        const lines = [...values].map(([labels, value]) => `${name}{${labels}} ${value}\n`).join("");
        return `# TYPE ${name} ${isTime ? "gauge" : "counter"}\n${lines}`;
      })
      .join("");
  }
}
