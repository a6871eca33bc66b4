/** The Python client's own tests, on the standard library alone; with pandas: `make test-python`. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";
import { venvPython } from "../../local/home.ts";

it("meets busy, slow, silent and lost servers, and sends events in batches", { tags: ["slow"] }, () => {
  const cwd = join(import.meta.dirname, "..", "..", "clients", "python");
  const env = { PATH: process.env["PATH"], PYTHONPATH: "src", PYTHONDONTWRITEBYTECODE: "1" };
  const args = ["-m", "unittest", "tests.test_retries", "tests.test_events", "tests.test_rows"];
  const { status, stderr } = spawnSync(venvPython(), args, { cwd, env, encoding: "utf8" });
  expect(stderr).toMatch(/^Ran \d\d tests .*\n\nOK\n$/m);
  expect(status).toBe(0);
});
