import { defineConfig } from "vitest/config";

// Four projects by what they need. `unit` needs nothing and is the inner loop; `store` starts a real Valkey;
// `system` deploys the app to a real emulator, so its files share one machine and run one at a time. `kafka` starts a real Kafka, for which the
// machine must have Java: it is no part of `make test`, but of `make test-kafka`; `registry`
// likewise a real schema registry, `make test-registry`.
// Tests that load onnxruntime by themselves keep it from reporting, as adapters/model/open.ts does.
const env = { ORT_DISABLE_TELEMETRY: "1" };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          env,
          include: ["test/**/*.test.ts"],
          exclude: [
            "test/**/*.store.test.ts",
            "test/**/*.system.test.ts",
            "test/**/*.kafka.test.ts",
            "test/**/*.registry.test.ts",
          ],
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
    ],
  },
});
