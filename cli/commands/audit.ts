import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Command } from "commander";
import { type AuditRecord, auditJson, createAuditLog } from "../../adapters/audit-log.ts";
import { time, whole } from "../arguments.ts";
import { ALL_TENANTS, withRecord } from "../audited.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { formatTable } from "../table.ts";

interface AuditOptions extends StageOption {
  readonly tenant: string;
  readonly limit: number;
  readonly before?: number;
  readonly json?: boolean;
}

export function register(program: Command): void {
  program
    .command("audit")
    .description("Who changed what of a tenant, and which administrator looked at what, newest first.")
    .option("--tenant <name>", `whose; '${ALL_TENANTS}' for what an operator did to all of them`, "default")
    .option("--limit <number>", "how many records", whole(1, 10_000), 100)
    .option("--before <time>", "only older ones: a time, epoch milliseconds, or an age as 2d", time)
    .addOption(stageOption())
    .option("--json", "print as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  freshet audit --tenant team-a --before 1d\n  freshet audit --tenant '*' --stage prod --json",
    )
    .action(async (options: AuditOptions) => {
      const { tenant, limit } = options;
      const deployment = await openDeployment(options);
      const { clientConfig, auditTable: table, auditRetentionDays: retentionDays } = deployment;
      const dynamodb = new DynamoDBClient(clientConfig);
      try {
        const log = createAuditLog({ table, dynamodb, retentionDays });
        const records = await withRecord(
          deployment,
          "read",
          { tenant, action: "audit.read", target: "audit" },
          async () => {
            const found: AuditRecord[] = [];
            let before = options.before === undefined ? null : String(options.before).padStart(13, "0");
            do {
              const page = await log.page(tenant, { before, limit: Math.min(500, limit - found.length) });
              found.push(...page.records);
              before = page.next;
            } while (before !== null && found.length < limit);
            return found;
          },
        );
        const rows = records.map((one) => [
          new Date(one.atMs).toISOString(),
          one.who,
          one.action,
          one.target,
          one.outcome,
          one.requestId ?? "-",
        ]);
        process.stdout.write(
          options.json
            ? `${JSON.stringify(records.map(auditJson), null, 2)}\n`
            : `${formatTable([["at", "who", "action", "target", "outcome", "request"], ...rows])}\n`,
        );
      } finally {
        dynamodb.destroy();
      }
    });
}
