import { join } from "node:path";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { bundleOptions } from "../../lib/constructs/function-code.ts";
import { bundleHandler, processHost } from "../harness/function-host.ts";

// A function that is woken each minute, or by each batch, is not to start with 70 MB of a database: one import too many is enough.
test("functions that are woken often carry no native package", { tags: ["slow"] }, async () => {
  const root = join(import.meta.dirname, "..", "..");
  const names = ["aggregate", "control", "heartbeat", "replay", "sweep"];
  const { metafile } = await build({
    ...{ ...bundleOptions, absWorkingDir: root, outdir: root, write: false, metafile: true },
    entryPoints: names.map((name) => join(root, "functions", `${name}.ts`)),
  });
  const outputs = Object.entries(metafile.outputs);
  expect(outputs).toHaveLength(names.length);
  const native: readonly string[] = bundleOptions.external;
  const carried = outputs.flatMap(([name, { imports }]) =>
    imports.filter(({ path, external }) => external && native.includes(path)).map(({ path }) => `${name}: ${path}`),
  );
  expect(carried).toEqual([]);
});

test("the heartbeat's has all of Kafka's client, and talks to nobody else in plaintext unless it is told to", async () => {
  const bundle = await bundleHandler("functions/heartbeat.ts");
  const host = processHost(bundle, {
    ...{ AWS_REGION: "us-east-1", POWERTOOLS_LOG_LEVEL: "SILENT", FRESHET_BROKER: "kafka", FRESHET_STREAMS: "{}" },
    ...{ FRESHET_BOOTSTRAP_SERVERS: "kafka.example:9092", FRESHET_CONTROL_FUNCTION: "control" },
  });
  try {
    const context = { awsRequestId: "r", functionName: "heartbeat", invokedFunctionArn: "arn:h", timeoutMs: 55_000 };
    await expect(host.invoke({}, context)).rejects.toThrow(
      "Kafka at kafka.example would be talked to in plaintext, and is not this machine",
    );
  } finally {
    await host.close();
    bundle.remove();
  }
});
