import { CfnOutput, Duration, RemovalPolicy } from "aws-cdk-lib";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { PolicyStatement, Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { DefinitionBody, LogLevel, StateMachine } from "aws-cdk-lib/aws-stepfunctions";
import type { Construct } from "constructs";
import type { Archive } from "./constructs/archive.ts";
import type { ArchiveTables } from "./constructs/archive-tables.ts";
import { type Board, graph } from "./constructs/board.ts";
import type { Models } from "./constructs/models.ts";
import { NodeFunction } from "./constructs/node-function.ts";
import type { SecureTable } from "./constructs/secure-table.ts";
import type { TrainingData } from "./constructs/training-data.ts";
import { trainingDefinition } from "./constructs/training-definition.ts";
import { type Deployment, physicalName } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";
import type { MakeTraining } from "./target.ts";

export interface TrainingStackProps {
  readonly archive: Archive;
  /** Null where there is no engine for ranges that a function cannot hold. */
  readonly tables: ArchiveTables | null;
  readonly data: TrainingData;
  readonly models: Models;
  /** What tenants have registered: services may take it. */
  readonly features: SecureTable;
  readonly training: MakeTraining;
}

/** From a training set to a champion, or to a reason why not. Stateless. */
export class TrainingStack extends FreshetStack {
  private readonly machine: StateMachine;

  constructor(scope: Construct, deployment: Deployment, props: TrainingStackProps) {
    super(scope, "training", { deployment, description: "Freshet: training, gate, registration and promotion" });
    const { data, models } = props;
    const build = new NodeFunction(this, "Build", {
      deployment,
      name: "training-set",
      description: "Builds a training set from the archive",
      timeout: Duration.minutes(15),
      memoryMb: deployment.stage.training.buildMemoryMb,
      // The archive's objects, the set, and what DuckDB spills.
      diskMb: 10_240,
    });
    props.archive.grantRead(build);
    props.archive.grantReadScores(build);
    props.tables?.grantQuery(build);
    props.features.grantRead(build);
    data.grantBuild(build);
    const steps = new NodeFunction(this, "Steps", {
      deployment,
      name: "training-steps",
      description: "Checks a training set, judges what was trained, registers and promotes it",
      timeout: Duration.minutes(5),
      memoryMb: 1_769,
    });
    data.grantRead(steps);
    data.grantLay(steps);
    models.grantRegister(steps);
    const { task, permissions } = props.training(this, "Job", deployment, data);
    const functions = { build: build.lambda.functionArn, steps: steps.lambda.functionArn };
    this.machine = this.stateMachine(deployment, trainingDefinition(functions, task), [
      new PolicyStatement({ actions: ["lambda:InvokeFunction"], resources: Object.values(functions) }),
      ...permissions,
    ]);
    new CfnOutput(this, "TrainingMachine", { value: this.machine.stateMachineArn });
  }

  watch(board: Board): void {
    const { machine } = this;
    board.row("Training", [
      graph("Executions", [machine.metricStarted(), machine.metricSucceeded()], [machine.metricFailed()]),
    ]);
    board.alarm({
      runbook: "training-failed",
      meaning: "An execution of the training state machine failed, or its gate refused the model. The champion stays.",
      metric: machine.metricFailed({ statistic: "Sum" }),
      comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      threshold: 1,
      periods: 1,
      missingData: TreatMissingData.NOT_BREACHING,
      missingDataReason: "nobody trains all the time",
    });
  }

  private stateMachine(
    deployment: Deployment,
    definition: object,
    permissions: readonly PolicyStatement[],
  ): StateMachine {
    const role = new Role(this, "MachineRole", {
      assumedBy: new ServicePrincipal("states.amazonaws.com"),
      description: `Freshet training machine (${deployment.stage.name})`,
    });
    for (const statement of permissions) role.addToPolicy(statement);
    return new StateMachine(this, "Machine", {
      stateMachineName: physicalName(deployment, "training"),
      definitionBody: DefinitionBody.fromString(this.toJsonString(definition)),
      role,
      tracingEnabled: true,
      logs: {
        destination: new LogGroup(this, "Log", {
          // Step Functions writes only to groups under this prefix without a policy that lists them.
          logGroupName: `/aws/vendedlogs/states/${physicalName(deployment, "training")}`,
          retention: deployment.stage.logRetentionDays,
          removalPolicy: RemovalPolicy.DESTROY,
        }),
        level: LogLevel.ALL,
      },
    });
  }
}
