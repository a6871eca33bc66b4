import type { IKey } from "aws-cdk-lib/aws-kms";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";
import { SecureTable } from "./secure-table.ts";

export interface AuditTrailProps {
  readonly deployment: Deployment;
  readonly key: IKey;
}

/** Who changed what, and which administrator looked at what, for as long as the stage says. */
export class AuditTrail extends Construct {
  readonly table: SecureTable;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, props: AuditTrailProps) {
    super(scope, id);
    this.deployment = props.deployment;
    this.table = new SecureTable(this, "Records", {
      ...props,
      name: "audit",
      environmentName: "auditTable",
      expiryAttribute: "expires_at",
    });
  }

  /** To add records and to read a tenant's; not to remove one. */
  grantRecord(fn: NodeFunction): void {
    this.table.grantPutAndQuery(fn);
    this.tellRetention(fn);
  }

  /** To add records alone. */
  grantAdd(fn: NodeFunction): void {
    this.table.grantPut(fn);
    this.tellRetention(fn);
  }

  private tellRetention(fn: NodeFunction): void {
    fn.set("auditRetentionDays", String(this.deployment.stage.audit.retentionDays));
  }
}
