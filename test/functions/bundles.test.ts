import { join } from "node:path";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { bundleOptions } from "../../lib/constructs/function-code.ts";
import { bundleHandler, processHost } from "../harness/function-host.ts";

// A function that is woken each minute, or by each batch, is not to start with 70 MB of a database: one import too many is enough.
test.each(["aggregate", "control", "heartbeat", "replay", "sweep"])("%s carries no native package", async (name) => {
  const root = join(import.meta.dirname, "..", "..");
  const { metafile } = await build({
    ...{ ...bundleOptions, absWorkingDir: root, entryPoints: [join(root, "functions", `${name}.ts`)] },
    ...{ outfile: "index.mjs", write: false, metafile: true },
  });
  const external = Object.values(metafile.outputs).flatMap(({ imports }) => imports.filter((one) => one.external));
  const native: readonly string[] = bundleOptions.external;
  expect(external.map(({ path }) => path).filter((path) => native.includes(path))).toEqual([]);
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
