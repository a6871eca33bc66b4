/** What the erase function's tombstones have to outlive: everything that may bring somebody back. */
import { expect, test } from "vitest";
import { GUARD_MS } from "../../functions/shared/erasure/erasure-steps.ts";
import { stageNamed } from "../../lib/stage.ts";

const HOUR_MS = 3_600_000;
/** Of DynamoDB's point-in-time recovery. */
const BACKUP_MS = 35 * 24 * HOUR_MS;

test.each(["local", "dev", "prod"])(
  "in stage %s they stand longer than broker, snapshots and backups hold anything",
  (name) => {
    const { stream, snapshots } = stageNamed(name);
    const longest = Math.max(stream.retentionHours * HOUR_MS, snapshots.keepHours * HOUR_MS, BACKUP_MS);
    expect(GUARD_MS).toBeGreaterThan(longest);
  },
);
