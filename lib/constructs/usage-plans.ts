import { createHash } from "node:crypto";
import { CfnApiKey, CfnUsagePlan, CfnUsagePlanKey, type RestApi } from "aws-cdk-lib/aws-apigateway";
import { Construct } from "constructs";
import { FreshetError } from "../../core/errors.ts";
import { type Deployment, physicalName } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";

export interface UsagePlansProps {
  readonly deployment: Deployment;
  readonly restApi: RestApi;
  /** Tells API Gateway by whose key a request counts. */
  readonly authorizer: NodeFunction;
}

/** Keys that tenants without one of their own share, by a hash of their names. */
const SHARED_KEYS = 16;
/** Of all of a function's variables together, Lambda takes 4 KB. */
const MOST_VARIABLE_BYTES = 3_072;

/**
 * What API Gateway lets through of one tenant, before any function runs. Its keys are not what callers send: the authorizer, which knows
 * the tenant, names one of these, so their values are no secrets. Tenants in the stage table have a key each, others share.
 */
export class UsagePlans extends Construct {
  constructor(scope: Construct, id: string, { deployment, restApi, authorizer }: UsagePlansProps) {
    super(scope, id);
    const { plans } = deployment.stage.api;
    const made = Object.fromEntries(
      Object.entries(plans).map(([name, { requestsPerSecond, burst }]) => [
        name,
        new CfnUsagePlan(this, name, {
          usagePlanName: physicalName(deployment, `tenant-${name}`),
          description: `What one tenant of plan ${name} may ask of the gateway`,
          apiStages: [{ apiId: restApi.restApiId, stage: restApi.deploymentStage.stageName }],
          throttle: { rateLimit: requestsPerSecond, burstLimit: burst },
        }),
      ]),
    );
    const key = (name: string, plan: keyof typeof plans): string => {
      const value = createHash("sha256")
        .update(physicalName(deployment, `usage/${name}`))
        .digest("hex")
        .slice(0, 32);
      const apiKey = new CfnApiKey(this, `Key ${name}`, {
        name: physicalName(deployment, `usage-${name.replace("/", "-")}`),
        value,
        enabled: true,
      });
      new CfnUsagePlanKey(this, `Place ${name}`, {
        keyId: apiKey.ref,
        keyType: "API_KEY",
        usagePlanId: made[plan].ref,
      });
      return value;
    };
    const own = Object.entries(deployment.stage.tenants).map(([tenant, plan]) => [tenant, key(`own/${tenant}`, plan)]);
    const shared = Array.from({ length: SHARED_KEYS }, (_, i) => key(`shared/${i}`, "standard"));
    const variable = JSON.stringify({ own: Object.fromEntries(own), shared });
    if (variable.length > MOST_VARIABLE_BYTES) {
      throw new FreshetError(
        "too_many_tenants",
        `keys of ${own.length} tenants take ${variable.length} bytes of the authorizer's environment, of ${MOST_VARIABLE_BYTES}`,
        { field: "tenants", repair: "list those in lib/stage.ts that must not share a usage plan's key with others" },
      );
    }
    authorizer.set("usageKeys", variable);
  }
}
