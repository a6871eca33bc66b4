import {
  AttributeType,
  BillingMode,
  ProjectionType,
  StreamViewType,
  Table,
  TableEncryption,
} from "aws-cdk-lib/aws-dynamodb";
import type { IKey } from "aws-cdk-lib/aws-kms";
import { Construct } from "constructs";
import type { EnvironmentName } from "../../functions/shared/environment.ts";
import { type Deployment, physicalName } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";
import { removalOf } from "./removal.ts";

export interface SecureTableProps {
  readonly deployment: Deployment;
  readonly key: IKey;
  /** Last part of the table's name. */
  readonly name: string;
  /** Variable that tells a function the table's name. */
  readonly environmentName: EnvironmentName;
  /** Key attributes, strings. @default pk and sk */
  readonly keys?: readonly [partition: string, sort?: string];
  /** Attribute in epoch seconds after which DynamoDB may delete an item. @default items stay */
  readonly expiryAttribute?: string;
  /** Name of an attribute that an index of the same name is over, which holds those attributes of an item. @default no index */
  readonly index?: { readonly attribute: string; readonly projected: readonly string[] };
  /** Publishes each item as it became, for a function to consume. @default false */
  readonly changes?: boolean;
}

/** An on-demand table: encrypted with the storage key, recoverable to any second of the last 35 days. */
export class SecureTable extends Construct {
  readonly table: Table;
  private readonly props: SecureTableProps;

  constructor(scope: Construct, id: string, props: SecureTableProps) {
    super(scope, id);
    this.props = props;
    const { deployment, keys: [partition, sort] = ["pk", "sk"] } = props;
    this.table = new Table(this, "Table", {
      tableName: physicalName(deployment, props.name),
      partitionKey: { name: partition, type: AttributeType.STRING },
      sortKey: sort === undefined ? undefined : { name: sort, type: AttributeType.STRING },
      billingMode: BillingMode.PAY_PER_REQUEST,
      encryption: TableEncryption.CUSTOMER_MANAGED,
      encryptionKey: props.key,
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
      timeToLiveAttribute: props.expiryAttribute,
      stream: props.changes ? StreamViewType.NEW_IMAGE : undefined,
      deletionProtection: deployment.stage.retainData,
      removalPolicy: removalOf(deployment),
    });
    if (props.index !== undefined) {
      this.table.addGlobalSecondaryIndex({
        indexName: props.index.attribute,
        partitionKey: { name: props.index.attribute, type: AttributeType.STRING },
        projectionType: ProjectionType.INCLUDE,
        nonKeyAttributes: [...props.index.projected],
      });
    }
  }

  /** To look single items up by their key. */
  grantLookUp(fn: NodeFunction): void {
    fn.allow(["dynamodb:GetItem"], [this.table.tableArn]);
    fn.allow(["kms:Decrypt", "kms:DescribeKey"], [this.props.key.keyArn]);
    fn.set(this.props.environmentName, this.table.tableName);
  }

  /** To do with single items whatever their owner asks for, and to list by the index. */
  grantManage(fn: NodeFunction): void {
    this.grantLookUp(fn);
    const changes = ["ConditionCheckItem", "DeleteItem", "PutItem", "UpdateItem"].map((name) => `dynamodb:${name}`);
    fn.allow(changes, [this.table.tableArn]);
    fn.allow(["dynamodb:Query"], [`${this.table.tableArn}/index/${this.props.index!.attribute}`]);
    this.openForWriting(fn);
  }

  grantRead(fn: NodeFunction): void {
    fn.allow(["dynamodb:GetItem", "dynamodb:Query"], [this.table.tableArn]);
    fn.allow(["kms:Decrypt", "kms:DescribeKey"], [this.props.key.keyArn]);
    fn.set(this.props.environmentName, this.table.tableName);
  }

  /** To look items up by their keys, many at once. */
  grantBatchRead(fn: NodeFunction): void {
    fn.allow(["dynamodb:BatchGetItem", "dynamodb:GetItem"], [this.table.tableArn]);
    fn.allow(["kms:Decrypt", "kms:DescribeKey"], [this.props.key.keyArn]);
    fn.set(this.props.environmentName, this.table.tableName);
  }

  /** To add items and change them; nothing that runs may delete one. */
  grantWrite(fn: NodeFunction): void {
    fn.allow(["dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"], [this.table.tableArn]);
    this.openForWriting(fn);
  }

  /** To put items one by one. */
  grantPut(fn: NodeFunction): void {
    fn.allow(["dynamodb:PutItem"], [this.table.tableArn]);
    this.openForWriting(fn);
  }

  /** To put items one by one and to read a partition: a batch could delete, too. */
  grantPutAndQuery(fn: NodeFunction): void {
    fn.allow(["dynamodb:PutItem", "dynamodb:Query"], [this.table.tableArn]);
    this.openForWriting(fn);
  }

  /** To work off a queue: read all of it, add, change and take out. */
  grantWork(fn: NodeFunction): void {
    fn.allow(
      ["dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:Scan", "dynamodb:UpdateItem"],
      [this.table.tableArn],
    );
    this.openForWriting(fn);
  }

  /** To take an entity's items out. */
  grantErase(fn: NodeFunction): void {
    fn.allow(["dynamodb:DeleteItem", "dynamodb:Query"], [this.table.tableArn]);
    this.openForWriting(fn);
  }

  /** DynamoDB opens a table with the caller's permission on its key, for writes as for reads. */
  private openForWriting(fn: NodeFunction): void {
    fn.allow(
      ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"],
      [this.props.key.keyArn],
    );
    fn.set(this.props.environmentName, this.table.tableName);
  }

  /** Of a table with `changes`: what a mapping that wakes a function reads. */
  get changesArn(): string {
    return this.table.tableStreamArn!;
  }

  grantChanges(fn: NodeFunction): void {
    const actions = [
      "dynamodb:DescribeStream",
      "dynamodb:GetRecords",
      "dynamodb:GetShardIterator",
      "dynamodb:ListStreams",
    ];
    fn.allow(actions, [this.changesArn]);
    fn.allow(["kms:Decrypt"], [this.props.key.keyArn]);
  }

  grantReadWrite(fn: NodeFunction): void {
    this.grantRead(fn);
    this.grantWrite(fn);
  }
}
