import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../core/errors.ts";
import { homeFolder } from "./home.ts";

export const EMULATOR_NAMES = ["ministack", "localstack", "localstack-docker"] as const;
export type EmulatorName = (typeof EMULATOR_NAMES)[number];

/** `.freshet/state.json`: what one laptop runtime has chosen and made. It outlives `down` and ends with `clean`. */
export interface LaptopState {
  readonly version: 1;
  readonly ports: Partial<LaptopPorts>;
  /** What carries events; not set in a home from before there was a choice, which has Kinesis. */
  readonly broker?: LaptopBroker;
  /** False while it runs and after a crash; the emulator keeps its state only when it ends cleanly. */
  readonly cleanShutdown: boolean;
  /** The online store missed nothing when it was last ended, ended with its file whole, and has not been opened since. */
  readonly storeWhole: boolean;
  /** @default ministack */
  readonly emulator?: EmulatorName;
  readonly deployment?: Deployment;
  /** The development key of tenant `default`. Loopback only, so it may lie in a file of the user's. */
  readonly apiKey?: string;
}

/** Kinesis is the emulator's. */
export type LaptopBroker = "kinesis" | "kafka";

export interface LaptopPorts {
  readonly valkey: number;
  readonly emulator: number;
  readonly serve: number;
  /** Those of Kafka, and of what the mapping tells of itself, where Kafka is the broker. */
  readonly kafka?: number;
  readonly kafkaController?: number;
  readonly mapping?: number;
}

export interface Deployment {
  /** Of the sources and context it was deployed from; an equal hash needs no deploy. */
  readonly sourceHash: string;
  readonly deployedAtMs: number;
  /** Every stack it made, the bootstrap's too: all must still be there for the deployment to count. */
  readonly stacks: readonly string[];
  /** Base URL behind the emulator's API Gateway, without a trailing slash. */
  readonly apiUrl: string;
  /** Variables of the deployed API functions, and the names of tables and buckets: what `freshet serve` and tools run with. */
  readonly environment: Readonly<Record<string, string>>;
  readonly controlFunction: string;
  /** Stream name in the plan to name of the Kinesis stream, or of the topic. */
  readonly streams: Readonly<Record<string, string>>;
}

const EMPTY: LaptopState = { version: 1, ports: {}, cleanShutdown: true, storeWhole: false };

function stateFile(home: string): string {
  return join(home, "state.json");
}

/** @throws FreshetError `state_unreadable` */
export function readState(home: string): LaptopState {
  const file = stateFile(home);
  if (!existsSync(file)) return EMPTY;
  try {
    const state = JSON.parse(readFileSync(file, "utf8")) as LaptopState;
    if (state.version !== EMPTY.version) throw new Error(`version ${state.version} is not ${EMPTY.version}`);
    return state;
  } catch (cause) {
    throw new FreshetError("state_unreadable", `${file} cannot be read: ${(cause as Error).message}`, {
      repair: "run `make clean`, then `make up`",
      cause,
    });
  }
}

/** Changes some fields; the file is replaced in one step, so a reader never sees half of it. */
export function updateState(home: string, change: Partial<Omit<LaptopState, "version">>): LaptopState {
  const state = { ...readState(home), ...change };
  const file = stateFile(homeFolder(home));
  // The key in it is for the owner of the file alone.
  writeFileSync(`${file}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
  return state;
}
