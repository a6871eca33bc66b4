/**
 * The app on LocalStack: `node test/local/localstack/run.ts process|containers`. Deployed by cdklocal, driven from ingest to score, torn down.
 * Weighs 560 MB and minutes, hence not in `make test`.
 */
import { conclude, type Tally, vitest } from "../../tally.ts";
import { whyNoEngine } from "./containers.ts";

const started = performance.now();

async function inContainers(): Promise<Tally> {
  const why = await whyNoEngine();
  if (why === null) return vitest(["localstack"], { workers: 1, env: { FRESHET_LOCALSTACK: "containers" } });
  console.log(`skipped: no container engine answers here (${why}); \`make test-localstack\` needs none`);
  return { passed: 0, failures: [], skipped: 1 };
}

const HOSTS: Readonly<Record<string, () => Promise<Tally>>> = {
  process: () => vitest(["localstack"], { workers: 1 }),
  containers: inContainers,
};
const host = HOSTS[process.argv[2] ?? ""];
if (host === undefined) {
  process.stderr.write(`usage: node test/local/localstack/run.ts ${Object.keys(HOSTS).join("|")}\n`);
  process.exit(2);
}
conclude([await host()], started);
