/** The Python client against a deployed app; what needs pandas is skipped here and run by `make test-python`. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";
import { venvPython } from "../../local/home.ts";
import { createTenant, deployed } from "../support/deployed.ts";

it("events to features, scores, pushed values and a historical job", async () => {
  const { key } = await createTenant();
  const cwd = join(import.meta.dirname, "..", "..", "clients", "python");
  const api = { FRESHET_URL: deployed().serve.url, FRESHET_KEY: key };
  const env = { PATH: process.env["PATH"], PYTHONPATH: "src", PYTHONDONTWRITEBYTECODE: "1", ...api };
  const { status, stderr } = spawnSync(venvPython(), ["-m", "unittest", "tests.test_live"], {
    cwd,
    env,
    encoding: "utf8",
  });
  expect(stderr).toMatch(/^Ran 8 tests .*\n\nOK \(skipped=2\)\n$/m);
  expect(status).toBe(0);
});
