/** Which emulator a home deploys to: MiniStack, or LocalStack where it was asked for. */
import { emulatorProcess, pingEmulator } from "./emulator.ts";
import { installLocalStack } from "./localstack/install.ts";
import { endLeftOfLocalStack, localStackProcess, pingLocalStack } from "./localstack/process.ts";
import { LOOPBACK } from "./ports.ts";
import type { ProcessSpec } from "./processes.ts";
import { type EmulatorName, readState } from "./state.ts";

export interface Emulator {
  readonly name: EmulatorName;
  /** Brings what `make install` does not. */
  readonly install?: (home: string, note: (text: string) => void, signal?: AbortSignal) => Promise<void>;
  readonly process: (home: string, ports: { emulator: number; valkey: number }) => ProcessSpec;
  /** Ends what a killed one leaves behind. */
  readonly endLeft?: (home: string) => void;
  readonly ping: (port: number, timeoutMs?: number) => Promise<boolean>;
  /** The program that deploys, under `node_modules`. */
  readonly deployer: string;
  /** CDK context beside target and stage. */
  readonly context: (ports: { valkey: number }) => readonly string[];
  /** Whether what it holds is there again after `down` and `up`. */
  readonly keepsState: boolean;
  /** Set where somebody else starts and ends it, and the store: on these ports unless others were asked for. */
  readonly external?: { readonly emulator: number; readonly valkey: number };
}

const EMULATORS: Readonly<Record<EmulatorName, Emulator>> = {
  ministack: {
    name: "ministack",
    process: emulatorProcess,
    ping: pingEmulator,
    deployer: "aws-cdk/bin/cdk",
    context: () => [],
    keepsState: true,
  },
  localstack: {
    name: "localstack",
    install: installLocalStack,
    process: localStackProcess,
    endLeft: endLeftOfLocalStack,
    ping: pingLocalStack,
    deployer: "aws-cdk-local/bin/cdklocal",
    // Its free edition has no ElastiCache.
    context: ({ valkey }) => ["emulator=localstack", `valkeyHost=${LOOPBACK}`, `valkeyPort=${valkey}`],
    keepsState: false,
  },
  "localstack-docker": {
    name: "localstack-docker",
    process: () => {
      throw new Error("an emulator in Docker is started by Docker");
    },
    ping: pingLocalStack,
    deployer: "aws-cdk-local/bin/cdklocal",
    // As functions see it, which run in containers of the same network.
    context: () => ["emulator=localstack", "valkeyHost=valkey", "valkeyPort=6379"],
    keepsState: false,
    // As docker-compose.localstack.yml publishes them.
    external: { emulator: 4_566, valkey: 6_379 },
  },
};

export const emulatorNamed = (name: EmulatorName): Emulator => EMULATORS[name];

export const emulatorOf = (home: string): Emulator => EMULATORS[readState(home).emulator ?? "ministack"];
