/** Settings of a Kinesis event source mapping: AWS's names, bounds and defaults. */

export interface MappingSettings {
  /** Records an invocation gets at most. */
  readonly batchSize: number;
  /** How long records are gathered before a batch that is not full is sent. */
  readonly batchWindowMs: number;
  /** Batches of one shard that are processed at once; order is kept for each partition key. */
  readonly parallelizationFactor: number;
  readonly bisectBatchOnFunctionError: boolean;
  readonly reportBatchItemFailures: boolean;
  /** -1 for no bound. */
  readonly maximumRetryAttempts: number;
  /** -1 for no bound. */
  readonly maximumRecordAgeMs: number;
  readonly startingPosition: "TRIM_HORIZON" | "LATEST";
}

export const DEFAULT_SETTINGS: MappingSettings = {
  batchSize: 100,
  batchWindowMs: 0,
  parallelizationFactor: 1,
  bisectBatchOnFunctionError: false,
  reportBatchItemFailures: false,
  maximumRetryAttempts: -1,
  maximumRecordAgeMs: -1,
  startingPosition: "TRIM_HORIZON",
};

/** The settings that a template deploys. @param properties of an `AWS::Lambda::EventSourceMapping` */
export function settingsOf(properties: Readonly<Record<string, any>>): MappingSettings {
  const age = properties["MaximumRecordAgeInSeconds"] ?? -1;
  return checkSettings({
    batchSize: properties["BatchSize"] ?? 100,
    batchWindowMs: (properties["MaximumBatchingWindowInSeconds"] ?? 0) * 1_000,
    parallelizationFactor: properties["ParallelizationFactor"] ?? 1,
    bisectBatchOnFunctionError: properties["BisectBatchOnFunctionError"] ?? false,
    reportBatchItemFailures: (properties["FunctionResponseTypes"] ?? []).includes("ReportBatchItemFailures"),
    maximumRetryAttempts: properties["MaximumRetryAttempts"] ?? -1,
    maximumRecordAgeMs: age === -1 ? -1 : age * 1_000,
    startingPosition: properties["StartingPosition"],
  });
}

export function checkSettings(settings: MappingSettings): MappingSettings {
  const within = (name: keyof MappingSettings, low: number, high: number, orInfinite = false): void => {
    const value = settings[name] as number;
    if ((orInfinite && value === -1) || (Number.isInteger(value) && low <= value && value <= high)) return;
    throw new Error(`${name} is ${low} to ${high}${orInfinite ? ", or -1" : ""}, given ${value}`);
  };
  within("batchSize", 1, 10_000);
  within("batchWindowMs", 0, 300_000);
  within("parallelizationFactor", 1, 10);
  within("maximumRetryAttempts", 0, 10_000, true);
  within("maximumRecordAgeMs", 60_000, 604_800_000, true);
  return settings;
}
