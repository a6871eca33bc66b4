/** Global set-up of tests on the app that is deployed with Kafka. */
import type { TestProject } from "vitest/node";
import { deployForTests } from "./deployed-setup.ts";

export const setup = (project: TestProject): Promise<() => Promise<void>> =>
  deployForTests(project, { broker: "kafka" });
