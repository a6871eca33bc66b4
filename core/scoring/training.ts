/** What a training job says about its model, and how it is read from the job's output. */

/** One of SageMaker's metric definitions: the first group of the expression is the value. */
export interface MetricDefinition {
  readonly Name: string;
  readonly Regex: string;
}

const MEASURES = ["pr_auc", "roc_auc", "recall_at_fpr_1pct", "card_precision_at_100", "log_loss", "brier", "base_rate"];

/** `[test] pr_auc=0.91;` is `test:pr_auc`. Of the valid slice there is no card precision. */
export const TRAINING_METRICS: readonly MetricDefinition[] = ["valid", "test"].flatMap((slice) =>
  MEASURES.filter((name) => slice === "test" || name !== "card_precision_at_100").map((name) => ({
    Name: `${slice}:${name}`,
    Regex: `\\[${slice}\\] ${name}=([0-9.eE+-]+);`,
  })),
);
