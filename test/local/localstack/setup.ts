/** Global set-up of the suites on LocalStack: the app on a LocalStack of this machine, or on one in containers. */
import type { TestProject } from "vitest/node";
import { anyFreePort } from "../../../local/ports.ts";
import { deployForTests } from "../../support/deployed-setup.ts";
import { startContainers } from "./containers.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Where the deployed training machine looks for SageMaker: a suite starts it there. */
    sageMakerPort: number;
  }
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const sageMakerPort = await anyFreePort();
  project.provide("sageMakerPort", sageMakerPort);
  if (process.env["FRESHET_LOCALSTACK"] !== "containers") {
    const context = [`sagemakerEndpoint=http://127.0.0.1:${sageMakerPort}`];
    return deployForTests(project, { emulator: "localstack", context });
  }
  const containers = await startContainers();
  // Functions are in containers, too, and see this machine under another name.
  const context = [`sagemakerEndpoint=http://host.docker.internal:${sageMakerPort}`];
  const { ports: wanted } = containers;
  try {
    const end = await deployForTests(project, { emulator: "localstack-docker", wanted, context });
    return async () => {
      await end();
      await containers.stop();
    };
  } catch (error) {
    await containers.stop();
    throw error;
  }
}
