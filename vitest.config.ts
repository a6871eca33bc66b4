import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { useScratchFolder } from "./test/support/scratch.ts";

// Projects by what they need. `unit` needs nothing and is the inner loop; `store` starts a real Valkey;
// `system` deploys the app to a real emulator, so its files share one machine and run one at a time. No part of `make test`, but of targets
// of their own: `kafka` starts a real Kafka, for which the machine must have Java, `kafka-system` deploys the app with one and
// `kinesis-system` holds Kinesis to the same contract; `registry` starts a real schema registry, `browser` needs a browser, and `localstack`
// deploys to LocalStack.
// Tests that load onnxruntime by themselves keep it from reporting, as adapters/model/open.ts does.
const env = { ORT_DISABLE_TELEMETRY: "1" };

// Deadlines end what hangs. They are far beyond what anything takes, also on a machine with a tenth of its time to give.
/** A poll's own second is little on a machine that has others to serve. */
const expect = { poll: { timeout: 30_000 } };

const setupFiles = ["test/support/seed.ts"];

useScratchFolder();

export default defineConfig({
  test: {
    tags: [{ name: "slow", description: "seconds by itself: left out by npm run check, unless its file is named" }],
    // One less by itself, which on two cores is half.
    maxWorkers: availableParallelism(),
    projects: [
      {
        test: {
          name: "unit",
          expect,
          env,
          setupFiles,
          include: ["test/**/*.test.ts"],
          exclude: ["store", "system", "kafka", "kinesis", "registry", "browser", "localstack"].map(
            (name) => `test/**/*.${name}.test.ts`,
          ),
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        test: {
          name: "store",
          expect,
          setupFiles,
          include: ["test/**/*.store.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          name: "system",
          expect,
          globalSetup: ["test/support/deployed-setup.ts"],
          include: ["test/**/*.system.test.ts"],
          testTimeout: 900_000,
          hookTimeout: 900_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "localstack",
          expect,
          globalSetup: ["test/local/localstack/setup.ts"],
          // Its own suites, and the one of the laptop's emulator that says what every deployment must do.
          include: ["test/**/*.localstack.test.ts", "test/system/flow.system.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 900_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "kafka",
          expect,
          globalSetup: ["test/support/kafka-setup.ts"],
          include: ["test/**/*.kafka.test.ts"],
          exclude: ["test/system/**"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
        },
      },
      {
        test: {
          name: "kafka-system",
          expect,
          globalSetup: ["test/support/deployed-kafka-setup.ts"],
          include: ["test/system/*.kafka.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "kinesis-system",
          expect,
          globalSetup: ["test/support/deployed-setup.ts"],
          include: ["test/system/*.kinesis.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "registry",
          expect,
          globalSetup: ["test/support/registry-setup.ts"],
          include: ["test/**/*.registry.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          // One of them ends the registry.
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "browser",
          expect,
          include: ["test/**/*.browser.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
