import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

// Projects by what they need. `unit` needs nothing and is the inner loop; `store` starts a real Valkey;
// `system` deploys the app to a real emulator, so its files share one machine and run one at a time. No part of `make test`, but of targets
// of their own: `kafka` starts a real Kafka, for which the machine must have Java, `registry` likewise a real schema registry, and
// `browser` needs a browser, `localstack` deploys to LocalStack.
// Tests that load onnxruntime by themselves keep it from reporting, as adapters/model/open.ts does.
const env = { ORT_DISABLE_TELEMETRY: "1" };

export default defineConfig({
  test: {
    // One less by itself, which on two cores is half.
    maxWorkers: availableParallelism(),
    projects: [
      {
        test: {
          name: "unit",
          env,
          include: ["test/**/*.test.ts"],
          exclude: ["store", "system", "kafka", "registry", "browser", "localstack"].map(
            (name) => `test/**/*.${name}.test.ts`,
          ),
          testTimeout: 60_000,
        },
      },
      { test: { name: "store", include: ["test/**/*.store.test.ts"], testTimeout: 120_000, hookTimeout: 120_000 } },
      {
        test: {
          name: "system",
          globalSetup: ["test/support/deployed-setup.ts"],
          include: ["test/**/*.system.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "localstack",
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
          globalSetup: ["test/support/kafka-setup.ts"],
          include: ["test/**/*.kafka.test.ts", "test/**/*.registry.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
        },
      },
      {
        test: {
          name: "registry",
          globalSetup: ["test/support/registry-setup.ts"],
          include: ["test/**/*.registry.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          // One of them ends the registry.
          fileParallelism: false,
        },
      },
      { test: { name: "browser", include: ["test/**/*.browser.test.ts"], testTimeout: 120_000, hookTimeout: 180_000 } },
    ],
  },
});
