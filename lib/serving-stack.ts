import { CfnOutput, Duration } from "aws-cdk-lib";
import type { Construct } from "constructs";
import type { Archive } from "./constructs/archive.ts";
import type { AuditTrail } from "./constructs/audit-trail.ts";
import { HttpApi } from "./constructs/http-api.ts";
import type { Models } from "./constructs/models.ts";
import { NodeFunction } from "./constructs/node-function.ts";
import type { OnlineStore } from "./constructs/online-store.ts";
import type { Quarantine } from "./constructs/quarantine.ts";
import type { SecureTable } from "./constructs/secure-table.ts";
import type { Deployment } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";

export interface ServingStackProps {
  readonly store: OnlineStore;
  readonly keys: SecureTable;
  readonly models: Models;
  readonly jobs: SecureTable;
  readonly audit: AuditTrail;
  /** What tenants have registered. */
  readonly features: SecureTable;
  readonly controlTable: SecureTable;
  readonly snapshots: SecureTable;
  readonly erasures: SecureTable;
  readonly archive: Archive;
  readonly quarantine: Quarantine;
  readonly ingest: NodeFunction;
}

/** Features and scores over HTTP. Stateless. */
export class ServingStack extends FreshetStack {
  readonly fn: NodeFunction;
  readonly authorizer: NodeFunction;
  readonly api: HttpApi;

  constructor(scope: Construct, deployment: Deployment, props: ServingStackProps) {
    super(scope, "serving", { deployment, description: "Freshet: features and scores over HTTP" });
    this.fn = new NodeFunction(this, "Read", {
      deployment,
      name: "api",
      description: "Reads features, scores, takes pushed values, and answers everything but events",
      placement: props.store.placement,
      memoryMb: deployment.stage.api.memoryMb,
    });
    // Pushed values are written by the store's function, under the epoch that the control table names.
    props.store.grantReadWrite(this.fn);
    props.controlTable.grantRead(this.fn);
    props.features.grantReadWrite(this.fn);
    props.snapshots.grantBatchRead(this.fn);
    this.fn.set("readBudgetMs", String(deployment.stage.api.readBudgetMs));
    this.fn.set("storeBudgetMs", String(deployment.stage.api.storeBudgetMs));
    props.archive.grantPush(this.fn);
    this.fn.set("limits", JSON.stringify(deployment.stage.limits));
    props.keys.grantManage(this.fn);
    props.models.grantServe(this.fn);
    props.archive.grantLogScores(this.fn);
    props.jobs.grantReadWrite(this.fn);
    // Asks for erasures and tells of them; the function that does them is woken by the table.
    props.erasures.grantRead(this.fn);
    props.erasures.grantPutAndQuery(this.fn);
    props.audit.grantRecord(this.fn);
    props.quarantine.grantInspect(this.fn);
    props.archive.grantHistorical(this.fn);
    this.authorizer = new NodeFunction(this, "Authorizer", {
      deployment,
      name: "authorize",
      description: "Tells API Gateway whether a request has a key",
      timeout: Duration.seconds(5),
    });
    props.keys.grantLookUp(this.authorizer);
    this.api = new HttpApi(this, "Api", {
      deployment,
      ingest: props.ingest,
      api: this.fn,
      authorizer: this.authorizer,
    });
    for (const [name, value] of Object.entries({
      ApiUrl: this.api.restApi.url,
      ApiId: this.api.restApi.restApiId,
      ApiStage: deployment.stage.name,
      ApiFunction: this.fn.lambda.functionName,
      TenantLimits: JSON.stringify(deployment.stage.limits),
    })) {
      new CfnOutput(this, name, { value });
    }
  }
}
