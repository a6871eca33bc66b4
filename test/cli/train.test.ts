import { execFileSync, spawn, spawnSync } from "node:child_process";
import { hash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readArtefactFolder } from "../../adapters/model/artefact-store.ts";
import { openModel } from "../../adapters/model/open.ts";
import { plan } from "../../features/plan.ts";
import { ROOT, venvPython } from "../../local/home.ts";
import { train as trainHere } from "../../local/sagemaker/train.ts";
import { freshetHere } from "../support/freshet-here.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const COMMAND = join(ROOT, "cli", "freshet.ts");
const scratch = mkdtempSync(join(tmpdir(), "freshet-train-"));
const set = join(scratch, "set");
beforeAll(() => void execFileSync(venvPython(), [join(ROOT, "test", "training", "synthetic.py"), set, "2500"]));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function train(home: string, ...args: string[]) {
  const result = spawnSync(process.execPath, [COMMAND, "train", "--service", "fraud", "--no-register", ...args], {
    encoding: "utf8",
    env: { ...process.env, FRESHET_HOME: home },
  });
  return { code: result.status, out: result.stdout, err: result.stderr };
}

describe("freshet train", { tags: ["slow"] }, () => {
  it("makes an artefact that serving opens, packed as SageMaker packs it", async () => {
    const { code, out, err } = train(temporaryFolder(), "--training-set", set, "--set", "num_trees=20", "--json");
    expect(code, err).toBe(0);
    expect(err).toContain("[test] pr_auc=");
    const { job, folder, archive, report, metrics } = JSON.parse(out);
    expect(job).toMatch(/^fraud-\d{17}$/);
    expect(metrics.rows_test).toBe(500);
    expect(existsSync(report)).toBe(true);
    const packed = execFileSync("tar", ["-tzf", archive], { encoding: "utf8" }).trim().split("\n");
    expect(packed.sort()).toEqual(readdirSync(folder).sort());
    const files = readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]);
    const model = await openModel(Object.fromEntries(files));
    expect(model.manifest).toMatchObject({ service: "fraud", planHash: plan.hash });
    expect(model.manifest.gitCommit).toMatch(/^[0-9a-f]{40}(-dirty)?$/);
  });

  it("has the model that stands scored on the same rows", async () => {
    const run = { trainingSet: set, hyperparameters: { num_trees: "20", card_key: "card" }, onLine: () => {} };
    const home = temporaryFolder();
    const first = await trainHere(home, { ...run, jobName: "first" });
    const files = readArtefactFolder(first.folder);
    const second = await trainHere(home, { ...run, jobName: "second", champion: files });
    const { manifest } = await openModel(readArtefactFolder(second.folder));
    const manifestSha256 = hash("sha256", files["manifest.json"]!, "hex");
    expect(manifest.champion).toMatchObject({ manifestSha256, metrics: { base_rate: manifest.metrics["base_rate"] } });
    expect(manifest.champion!.metrics["pr_auc"]).toBeCloseTo(manifest.metrics["pr_auc"]!, 12);
    expect((await openModel(files)).manifest.champion).toBe(null);
  });

  it("says in the program's words why no model was made", () => {
    const home = temporaryFolder();
    const { code, err } = train(home, "--training-set", set, "--set", "min_rows=9000", "--name", "small");
    expect(code).toBe(1);
    expect(err).toContain("training small failed: too_few_rows: 2500 labelled rows, at least 9000 are needed");
    expect(err).toContain("repair: no model was made and none is changed");
    const again = train(home, "--training-set", set, "--name", "small");
    expect(again.err).toContain("there is a training job small");
  });

  it.each([
    [["--training-set", join(set, "none")], 1, "there is no folder"],
    [["--training-set", set, "--set", "num_trees"], 2, "Give a hyperparameter, as num_trees=200."],
    [["--training-set", set, "--set", "plan_hash=ab"], 2, "plan_hash is filled in by itself."],
    [["--training-set", set, "--service", "none"], 2, "there is no feature service none\n  repair: use one of fraud"],
    [["--training-set", set, "--tenant", "a/b"], 2, 'a tenant is 1 to 64 of a-z, 0-9, _ and -, given "a/b"'],
    [["--training-set", set, "--name", "a/b"], 1, "a training job's name is letters, digits and hyphens"],
  ])("%j is refused", async (args, code, words) => {
    const result = await freshetHere(["train", "--service", "fraud", "--no-register", ...args], temporaryFolder());
    expect(result.err).toContain(words);
    expect(result.code).toBe(code);
  });

  it.each([
    ["without a set", []],
    ["with one", ["--training-set", set]],
  ])("says that nothing runs before anything is built or trained, %s", async (_, args) => {
    const home = temporaryFolder();
    const { code, err } = await freshetHere(["train", "--service", "fraud", ...args], home);
    expect(err).toContain("Freshet is not running here\n  repair: run `make up`");
    expect(code).toBe(3);
    expect(existsSync(join(home, "training"))).toBe(false);
  });

  it("passes Ctrl-C on, and the program ends by itself", async () => {
    const home = temporaryFolder();
    const long = ["num_trees=5000", "early_stopping_rounds=5000", "learning_rate=0.001", "num_threads=1"];
    const child = spawn(
      process.execPath,
      [COMMAND, "train", "--service", "fraud", "--no-register", "--training-set", set, "--name", "long"].concat(
        long.flatMap((each) => ["--set", each]),
      ),
      { env: { ...process.env, FRESHET_HOME: home }, stdio: ["ignore", "pipe", "pipe"] },
    );
    let out = "";
    let asked = false;
    child.stdout.on("data", (chunk) => {
      out += chunk;
      if (!asked && out.includes("trees=10;")) asked = child.kill("SIGINT");
    });
    const [code] = await once(child, "close");
    expect(out).toContain("stopped=1;");
    expect(code).toBe(130);
    // What was done stays in the job's folder; nothing of the process does.
    expect(existsSync(join(home, "training", "long", "model", "manifest.json"))).toBe(true);
    expect(readdirSync(join(home, "run"))).toEqual([]);
  });
});
