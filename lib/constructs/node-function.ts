import { Duration, RemovalPolicy, Size, Stack } from "aws-cdk-lib";
import type { ISecurityGroup, IVpc, SubnetSelection } from "aws-cdk-lib/aws-ec2";
import { Effect, type IPrincipal, PolicyStatement, Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import { Architecture, Function as LambdaFunction, Runtime } from "aws-cdk-lib/aws-lambda";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { Construct } from "constructs";
import { ENVIRONMENT, type EnvironmentName } from "../../functions/shared/environment.ts";
import { type Deployment, physicalName } from "../deployment.ts";
import { handlerOf } from "./function-code.ts";

/** Where a function runs. Empty means outside of any VPC. */
export interface Placement {
  readonly vpc?: IVpc;
  readonly vpcSubnets?: SubnetSelection;
  readonly securityGroups?: ISecurityGroup[];
}

export interface NodeFunctionProps {
  readonly deployment: Deployment;
  /** File in `functions/` without its extension, and the last part of the function's name. */
  readonly name: string;
  readonly description: string;
  /** @default 30 seconds */
  readonly timeout?: Duration;
  /** @default 512 */
  readonly memoryMb?: number;
  /** Of /tmp. @default 512 */
  readonly diskMb?: number;
  /** @default outside of any VPC */
  readonly placement?: Placement;
  /** @default x86_64, which the native model runtime is tested on */
  readonly architecture?: Architecture;
}

/**
 * A function with a role that may write its own log and nothing more. Components give it the rest, permission and
 * environment in one call, through `allow` and `set`.
 */
export class NodeFunction extends Construct {
  readonly lambda: LambdaFunction;
  readonly logGroup: LogGroup;
  readonly name: string;
  private readonly role: Role;
  private readonly functionName: string;

  constructor(scope: Construct, id: string, props: NodeFunctionProps) {
    super(scope, id);
    const { deployment, placement = {} } = props;
    const functionName = physicalName(deployment, props.name);
    this.functionName = functionName;
    this.name = props.name;
    this.logGroup = new LogGroup(this, "Log", {
      logGroupName: `/aws/lambda/${functionName}`,
      retention: deployment.stage.logRetentionDays,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    // Not AWSLambdaBasicExecutionRole: that one may write the log of every function in the account.
    this.role = new Role(this, "Role", {
      assumedBy: new ServicePrincipal("lambda.amazonaws.com"),
      description: `Freshet ${props.name} (${deployment.stage.name})`,
    });
    this.allow(["logs:CreateLogStream", "logs:PutLogEvents"], [this.logGroup.logGroupArn]);
    if (placement.vpc !== undefined) this.allowForAttachment(NETWORK_INTERFACES);
    this.lambda = new LambdaFunction(this, "Function", {
      ...placement,
      functionName,
      description: props.description,
      runtime: Runtime.NODEJS_24_X,
      architecture: props.architecture ?? Architecture.X86_64,
      handler: handlerOf(props.name),
      code: deployment.code.of(props.name),
      role: this.role,
      logGroup: this.logGroup,
      timeout: props.timeout ?? Duration.seconds(30),
      memorySize: props.memoryMb ?? 512,
      ephemeralStorageSize: props.diskMb === undefined ? undefined : Size.mebibytes(props.diskMb),
      environment: {
        [ENVIRONMENT.target]: deployment.target.name,
        NODE_OPTIONS: "--enable-source-maps",
        POWERTOOLS_SERVICE_NAME: props.name,
        POWERTOOLS_METRICS_NAMESPACE: "Freshet",
      },
    });
  }

  get principal(): IPrincipal {
    return this.role;
  }

  /** Exact actions on exact resources; the constructs' own `grant…` methods give families of actions. */
  allow(actions: readonly string[], resources: readonly string[]): void {
    this.role.addToPrincipalPolicy(new PolicyStatement({ actions: [...actions], resources: [...resources] }));
  }

  set(name: EnvironmentName, value: string): void {
    this.lambda.addEnvironment(ENVIRONMENT[name], value);
  }

  grantInvoke(caller: NodeFunction, environmentName: EnvironmentName): void {
    caller.allow(["lambda:InvokeFunction"], [this.lambda.functionArn]);
    caller.set(environmentName, this.lambda.functionName);
  }

  /**
   * Lambda itself attaches the function, or what polls for it, to the VPC with the function's role, and asks for these on `*`.
   * The code inside needs none of them, so they are denied to it.
   */
  allowForAttachment(actions: readonly string[]): void {
    this.allow(actions, ["*"]);
    const self = Stack.of(this).formatArn({ service: "lambda", resource: `function:${this.functionName}` });
    this.role.addToPrincipalPolicy(
      new PolicyStatement({
        effect: Effect.DENY,
        actions: [...actions],
        resources: ["*"],
        conditions: { ArnEquals: { "lambda:SourceFunctionArn": self } },
      }),
    );
  }
}

const NETWORK_INTERFACES = [
  "ec2:AssignPrivateIpAddresses",
  "ec2:CreateNetworkInterface",
  "ec2:DeleteNetworkInterface",
  "ec2:DescribeNetworkInterfaces",
  "ec2:DescribeSubnets",
  "ec2:UnassignPrivateIpAddresses",
];
