import { Duration, Stack } from "aws-cdk-lib";
import { Stream, StreamEncryption, StreamMode } from "aws-cdk-lib/aws-kinesis";
import type { IKey } from "aws-cdk-lib/aws-kms";
import { EventSourceMapping, type IEventSourceDlq, StartingPosition } from "aws-cdk-lib/aws-lambda";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import { dataKey } from "./data-key.ts";
import { type EventStreams, giveUpAfter } from "./event-streams.ts";
import type { NodeFunction } from "./node-function.ts";
import { removalOf } from "./removal.ts";

/** One encrypted Kinesis stream for each stream that the plan declares. */
export class KinesisStreams extends Construct implements EventStreams {
  readonly placement = undefined;
  readonly outputs = {};
  /** By the stream's name in the plan. */
  private readonly byName: ReadonlyMap<string, Stream>;
  private readonly key: IKey;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, props: { readonly deployment: Deployment }) {
    super(scope, id);
    const { deployment } = props;
    const key = dataKey(scope, deployment, "streams");
    this.key = key;
    this.deployment = deployment;
    this.byName = new Map(
      deployment.plan.streams.map(({ name }) => [
        name,
        new Stream(this, name, {
          streamName: physicalName(deployment, name),
          streamMode: StreamMode.PROVISIONED,
          shardCount: deployment.stage.stream.shards,
          retentionPeriod: Duration.hours(deployment.stage.stream.retentionHours),
          encryption: StreamEncryption.KMS,
          encryptionKey: key,
          removalPolicy: removalOf(deployment),
        }),
      ]),
    );
  }

  namesJson(scope: Construct): string {
    return Stack.of(scope).toJsonString(
      Object.fromEntries([...this.byName].map(([name, stream]) => [name, stream.streamName])),
    );
  }

  grantPut(fn: NodeFunction): void {
    fn.allow(["kinesis:PutRecord", "kinesis:PutRecords"], this.arns());
    fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("streams", this.namesJson(fn));
  }

  grantHeartbeat(fn: NodeFunction): void {
    fn.allow(["kinesis:DescribeStreamSummary", "kinesis:ListShards"], this.arns());
    this.grantPut(fn);
  }

  /** An operator's command reads the shards: the function is handed their records. */
  grantReplay(fn: NodeFunction): void {
    fn.set("streams", this.namesJson(fn));
  }

  deliver(scope: Construct, fn: NodeFunction, onFailure: IEventSourceDlq): void {
    const { stage } = this.deployment;
    this.grantConsume(fn);
    for (const [name, stream] of this.byName) {
      // Blocks instead of skipping: unlimited attempts until the records are nearly too old to be read again. A batch that
      // fails is halved until the cause stands alone, and a part that succeeded is not delivered again.
      new EventSourceMapping(scope, `From-${name}`, {
        target: fn.lambda,
        eventSourceArn: stream.streamArn,
        // From the beginning: what was sent before the mapping existed counts too.
        startingPosition: StartingPosition.TRIM_HORIZON,
        batchSize: stage.aggregation.batchSize,
        maxBatchingWindow: Duration.seconds(stage.aggregation.batchWindowSeconds),
        parallelizationFactor: stage.aggregation.parallelizationFactor,
        bisectBatchOnError: true,
        reportBatchItemFailures: true,
        retryAttempts: -1,
        maxRecordAge: giveUpAfter(stage),
        onFailure,
      });
    }
  }

  /** The functions' own metrics say how far behind they are. */
  watch(): void {}

  /** What the mapping does with its function's role. */
  private grantConsume(fn: NodeFunction): void {
    fn.allow(
      [
        "kinesis:DescribeStream",
        "kinesis:DescribeStreamSummary",
        "kinesis:GetRecords",
        "kinesis:GetShardIterator",
        "kinesis:ListShards",
      ],
      this.arns(),
    );
    fn.allow(["kms:Decrypt"], [this.key.keyArn]);
    fn.set("streams", this.namesJson(fn));
  }

  private arns(): string[] {
    return [...this.byName.values()].map((stream) => stream.streamArn);
  }
}
