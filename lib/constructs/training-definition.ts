/** The training state machine as data: Amazon States Language, in the order in which it runs. */

/** A task that trains: the service integration, or what stands in for it. */
export interface TrainingTask {
  readonly resource: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Path, in the task's result, of the address of model.tar.gz. */
  readonly modelPath: string;
  /** Lists the version where the platform's own tools look for models. @default it is in our registry alone */
  readonly listing?: { readonly resource: string; readonly parameters: Readonly<Record<string, unknown>> };
}

const RETRIED = [
  "Lambda.ServiceException",
  "Lambda.AWSLambdaException",
  "Lambda.SdkClientException",
  "Lambda.TooManyRequestsException",
];

/** A call that ran out of time or memory: another goes on where it was. */
const DIED = ["Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError", "Runtime.OutOfMemory"];
const RETRY = { IntervalSeconds: 2, MaxAttempts: 4, BackoffRate: 2 };

/** Our registry holds the version by now: a listing that fails is told by the execution's log, and keeps no model from serving. */
const list = ({ resource, parameters }: NonNullable<TrainingTask["listing"]>) => ({
  Type: "Task",
  Resource: resource,
  Parameters: parameters,
  Retry: [{ ErrorEquals: ["States.TaskFailed"], IntervalSeconds: 2, MaxAttempts: 3, BackoffRate: 2 }],
  Catch: [{ ErrorEquals: ["States.ALL"], ResultPath: "$.not_listed", Next: "Wanted" }],
  ResultPath: "$.listed",
  Next: "Wanted",
});

/** @param functions ARNs: what builds a set, and what does our other steps */
export function trainingDefinition(functions: { build: string; steps: string }, train: TrainingTask): object {
  const step = (payload: object, rest: object, fn = functions.steps) => ({
    Type: "Task",
    Resource: "arn:aws:states:::lambda:invoke",
    Parameters: { FunctionName: fn, Payload: payload },
    Retry: [{ ...RETRY, ErrorEquals: RETRIED }],
    ...rest,
  });
  return {
    Comment: "Training set to champion. What fails leaves the registry as it was.",
    StartAt: "Given",
    States: {
      Given: {
        Type: "Choice",
        Choices: [{ Variable: "$.training_set", IsPresent: true, Next: "Prepare" }],
        Default: "Build",
      },
      Build: step(
        { "execution.$": "$$.Execution.Name", "input.$": "$" },
        { OutputPath: "$.Payload", Next: "Built", Retry: [{ ...RETRY, ErrorEquals: [...RETRIED, ...DIED] }] },
        functions.build,
      ),
      // A set that takes longer than a call is gone on with by the next.
      Built: {
        Type: "Choice",
        Choices: [{ Variable: "$.training_set", IsPresent: true, Next: "Prepare" }],
        Default: "Build",
      },
      Prepare: step(
        { step: "prepare", "execution.$": "$$.Execution.Name", "input.$": "$" },
        { OutputPath: "$.Payload", Next: "Train" },
      ),
      Train: {
        Type: "Task",
        Resource: train.resource,
        Parameters: train.parameters,
        ResultSelector: { "model.$": train.modelPath },
        ResultPath: "$.job",
        Next: "Gate",
      },
      Gate: step(
        { step: "gate", "input.$": "$" },
        { ResultSelector: { "verdict.$": "$.Payload" }, ResultPath: "$.gate", Next: "Better" },
      ),
      Better: {
        Type: "Choice",
        Choices: [{ Variable: "$.gate.verdict.passed", BooleanEquals: true, Next: "Register" }],
        Default: "Refused",
      },
      Refused: { Type: "Fail", Error: "gate_refused", CausePath: "$.gate.verdict.reason" },
      Register: step(
        { step: "register", "input.$": "$" },
        {
          ResultSelector: { "version.$": "$.Payload.version" },
          ResultPath: "$.registered",
          Next: train.listing === undefined ? "Wanted" : "List",
        },
      ),
      ...(train.listing === undefined ? {} : { List: list(train.listing) }),
      Wanted: {
        Type: "Choice",
        Choices: [{ Variable: "$.promote", BooleanEquals: true, Next: "Promote" }],
        Default: "Registered",
      },
      Promote: step(
        { step: "promote", "input.$": "$" },
        { ResultSelector: { "champion.$": "$.Payload.champion" }, ResultPath: "$.promoted", Next: "Registered" },
      ),
      Registered: { Type: "Succeed" },
    },
  };
}
