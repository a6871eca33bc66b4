import { defineConfig } from "vitest/config";

// Three projects by what they need. `unit` needs nothing and is the inner loop; `store` starts a real Valkey;
// `system` deploys the app to a real emulator, so its files share one machine and run one at a time.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/**/*.store.test.ts", "test/**/*.system.test.ts"],
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
    ],
  },
});
