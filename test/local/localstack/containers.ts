/** LocalStack and Valkey as docker-compose.localstack.yml has them, on ports of their own, gone with the test. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { LocalstackContainer } from "@testcontainers/localstack";
import { GenericContainer, getContainerRuntimeClient, Network, Wait } from "testcontainers";
import { ROOT } from "../../../local/home.ts";

const compose = readFileSync(join(ROOT, "docker-compose.localstack.yml"), "utf8");
/** One place says which images. */
const imageOf = (name: string): string => new RegExp(`image: (${name}:\\S+)`).exec(compose)![1];
const VALKEY = 6_379;

export interface Containers {
  readonly ports: { readonly emulator: number; readonly valkey: number };
  stop(): Promise<void>;
}

/** Why no container can be started here; null when one can. */
export async function whyNoEngine(): Promise<string | null> {
  try {
    await getContainerRuntimeClient();
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

export async function startContainers(): Promise<Containers> {
  const network = await new Network().start();
  const settings = /valkey-server\n([\s\S]*?)\n\s+ports:/.exec(compose)![1].trim().split(/\s+/);
  const [valkey, localstack] = await Promise.all([
    new GenericContainer(imageOf("valkey/valkey"))
      .withNetwork(network)
      .withNetworkAliases("valkey")
      .withCommand(["valkey-server", ...settings])
      .withExposedPorts(VALKEY)
      .withWaitStrategy(Wait.forLogMessage("Ready to accept connections"))
      .start(),
    new LocalstackContainer(imageOf("localstack/localstack"))
      .withNetwork(network)
      .withBindMounts([{ source: "/var/run/docker.sock", target: "/var/run/docker.sock" }])
      .withEnvironment({ LAMBDA_DOCKER_NETWORK: network.getName(), DISABLE_EVENTS: "1", SKIP_SSL_CERT_DOWNLOAD: "1" })
      .start(),
  ]);
  return {
    ports: { emulator: Number(new URL(localstack.getConnectionUri()).port), valkey: valkey.getMappedPort(VALKEY) },
    async stop() {
      await Promise.all([localstack.stop(), valkey.stop()]);
      await network.stop();
    },
  };
}
