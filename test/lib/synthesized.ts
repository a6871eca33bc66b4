/** The app's templates, synthesized once for each target, without bundles: tests of infrastructure need no functions. */
import { readFileSync } from "node:fs";
import { App } from "aws-cdk-lib";
import { Template } from "aws-cdk-lib/assertions";
import type { Plan, Service, Stream } from "../../core/plan.ts";
import { addStacks } from "../../lib/app.ts";
import type { Deployment } from "../../lib/deployment.ts";
import { type Stage, stageNamed } from "../../lib/stage.ts";
import type { Target } from "../../lib/target.ts";
import { awsTarget } from "../../lib/targets/aws.ts";
import { localTarget } from "../../lib/targets/local.ts";
import { placeholderCode } from "./placeholder-code.ts";

// CDK's own validation of templates takes three seconds a process. It is on where the app runs as a whole: app.test.ts.
process.env["CDK_VALIDATION"] = "false";

export interface Resource {
  readonly Type: string;
  readonly Properties: Record<string, any>;
  readonly [attribute: string]: any;
}

/** Two streams, one with a name that has to be changed for AWS, and one service. */
export const fixturePlan: Plan = {
  version: 1,
  hash: "0123456789abcdef",
  layoutHash: "fedcba9876543210",
  entities: [{ name: "card", joinKey: "card_id", description: "", fallback: true }],
  streams: [stream("transactions"), stream("feature_events")],
  groups: [],
  batchViews: [
    {
      ...{
        name: "merchant_risk",
        entity: "card",
        sql: "SELECT 1",
        streams: ["transactions"],
        owner: "",
        description: "",
      },
      ...{ everyMs: 86_400_000, lookbackMs: null, ttlMs: 172_800_000, reachMs: 259_200_000, tags: [], features: [] },
    },
  ],
  views: [],
  services: [
    {
      name: "fraud",
      features: [],
      onDemand: [],
      request: {},
      defaults: {},
      entities: [],
      task: "binary",
      fallback: null,
    } satisfies Service,
  ],
};

/** @param stage by name, or one that is not in the table */
export function synthesize(
  target: Target,
  stage: Stage["name"] | Stage,
  plan = fixturePlan,
  more: Partial<Deployment> = {},
): Synthesized {
  const { context } = JSON.parse(readFileSync(new URL("../../cdk.json", import.meta.url), "utf8"));
  const app = new App({ context });
  const size = typeof stage === "string" ? stageNamed(stage) : stage;
  addStacks(app, { stage: size, target, plan, code: placeholderCode, ...more });
  return new Synthesized(app);
}

const made = new Map<string, Synthesized>();
function once(key: string, make: () => Synthesized): Synthesized {
  let app = made.get(key);
  if (app === undefined) made.set(key, (app = make()));
  return app;
}
/** The same one for whoever asks: nobody changes what it gives. */
export const synthesizeAws = (stage: Stage["name"] = "prod") =>
  once(`aws ${stage}`, () => synthesize(awsTarget(), stage));
export const synthesizeLocal = () => once("local", () => synthesize(localTarget(), "local"));

export class Synthesized {
  readonly app: App;
  readonly #templates: ReadonlyMap<string, any>;

  constructor(app: App) {
    this.app = app;
    this.#templates = new Map(
      app.synth().stacks.map((stack) => [stack.stackName.replace(/^freshet-[a-z]+-/, ""), stack.template]),
    );
  }

  get stacks(): string[] {
    return [...this.#templates.keys()];
  }

  /** @param stack last part of the stack's name, as `aggregation` */
  template(stack: string): Template {
    return Template.fromJSON(this.#templates.get(stack));
  }

  /** Resources of a type by stack and logical id, over all stacks. */
  resources(type: string | RegExp): [id: string, resource: Resource][] {
    const result: [string, Resource][] = [];
    for (const [stack, template] of this.#templates) {
      for (const [id, resource] of Object.entries<Resource>(template.Resources ?? {})) {
        const matches = typeof type === "string" ? resource.Type === type : type.test(resource.Type);
        if (matches) result.push([`${stack}/${id}`, resource]);
      }
    }
    return result;
  }

  /** The one resource of a type whose property has a value. */
  named(type: string, property: string, value: unknown): Resource {
    const found = this.resources(type).filter(([, { Properties }]) => Properties[property] === value);
    if (found.length !== 1) throw new Error(`${found.length} resources ${type} have ${property} ${value}`);
    return found[0][1];
  }

  outputs(stack: string): Record<string, any> {
    return this.#templates.get(stack).Outputs ?? {};
  }
}

function stream(name: string): Stream {
  return {
    name,
    contract: `${name}.v1`,
    fields: {},
    eventId: "event_id",
    eventTime: "event_time",
    partitionKey: "card_id",
    allowedLatenessMs: 600_000,
    baseMs: 60_000,
  };
}
