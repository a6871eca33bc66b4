import { Duration, Stack } from "aws-cdk-lib";
import { Stream, StreamEncryption, StreamMode } from "aws-cdk-lib/aws-kinesis";
import type { IKey } from "aws-cdk-lib/aws-kms";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";
import { removalOf } from "./removal.ts";

export interface EventStreamsProps {
  readonly deployment: Deployment;
  readonly key: IKey;
}

/** One Kinesis stream for each stream that the plan declares. */
export class EventStreams extends Construct {
  /** By the stream's name in the plan. */
  readonly byName: ReadonlyMap<string, Stream>;
  private readonly key: IKey;

  constructor(scope: Construct, id: string, props: EventStreamsProps) {
    super(scope, id);
    const { deployment, key } = props;
    this.key = key;
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

  /** Names by plan name, as the environment and the outputs carry them. */
  namesJson(scope: Construct): string {
    return Stack.of(scope).toJsonString(
      Object.fromEntries([...this.byName].map(([name, stream]) => [name, stream.streamName])),
    );
  }

  /** To send events: ingest. */
  grantPut(fn: NodeFunction): void {
    fn.allow(["kinesis:PutRecord", "kinesis:PutRecords"], this.arns());
    fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("streams", this.namesJson(fn));
  }

  /** To send a heartbeat to every shard. */
  grantHeartbeat(fn: NodeFunction): void {
    fn.allow(["kinesis:DescribeStreamSummary", "kinesis:ListShards"], this.arns());
    this.grantPut(fn);
  }

  /** What an event source mapping does with its function's role. */
  grantConsume(fn: NodeFunction): void {
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

  /** To know which stream an ARN is of. */
  tellNames(fn: NodeFunction): void {
    fn.set("streams", this.namesJson(fn));
  }

  private arns(): string[] {
    return [...this.byName.values()].map((stream) => stream.streamArn);
  }
}
