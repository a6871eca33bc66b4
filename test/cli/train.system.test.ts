/** `freshet train` against a deployment: the model is in its registry, and the registry's own commands know it. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { plan } from "../../features/plan.ts";
import { ROOT, venvPython } from "../../local/home.ts";
import { createTenant, deployed } from "../support/deployed.ts";

const scratch = mkdtempSync(join(tmpdir(), "freshet-train-"));
const set = join(scratch, "set");
beforeAll(() => {
  execFileSync(venvPython(), [join(ROOT, "test", "training", "synthetic.py"), set, "2500"]);
  // As of a set whose range nobody has bounded, and that does not say where it ends.
  const manifest = JSON.parse(readFileSync(join(set, "manifest.json"), "utf8"));
  writeFileSync(join(set, "manifest.json"), JSON.stringify({ ...manifest, from_ms: null, to_ms: undefined }));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const spawned = (...args: string[]) =>
  spawnSync(process.execPath, [join(ROOT, "cli", "freshet.ts"), ...args], {
    encoding: "utf8",
    env: { ...process.env, FRESHET_HOME: deployed().home },
  });

/** What people are shown. */
const freshetText = (...args: string[]): string => {
  const { stdout, stderr } = spawned(...args);
  return stdout + stderr;
};

function freshet(...args: string[]) {
  const { status, stdout, stderr } = spawned(...args, "--json");
  return { status, stderr, out: stdout === "" ? null : JSON.parse(stdout) };
}

describe("freshet train on a deployment", () => {
  it("registers what it has trained, with its lineage; a run that fails registers nothing", async () => {
    const { tenant } = await createTenant();
    const train = (...args: string[]) =>
      freshet("train", "--service", "fraud", "--tenant", tenant, "--training-set", set, ...args);
    const first = train("--set", "num_trees=20");
    expect(first.stderr).toContain("[test] pr_auc=");
    expect(first).toMatchObject({ status: 0, out: { version: 1 } });
    expect(train("--set", "min_rows=5000")).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("too_few_rows: 2500 labelled rows, at least 5000 are needed"),
    });
    const listed = freshet("models", "list", "--service", "fraud", "--tenant", tenant);
    expect(listed.out).toMatchObject([
      { version: 1, plan_hash: plan.hash, aliases: [], training_set: { row_count: 2_500 } },
    ]);
    expect(listed.out).toHaveLength(1);
    expect(listed.out[0].metrics.pr_auc).toBe(first.out.metrics.pr_auc);
    expect(freshetText("models", "show", "1", "--tenant", tenant)).toMatch(
      /training set +2500 rows, the beginning to the newest\n/,
    );
  });
});
