import { type Command, Option } from "commander";
import { InterruptedError, interruptible } from "../local/interrupt.ts";
import { down, up } from "../local/laptop.ts";
import { withLock } from "../local/lock.ts";
import {
  EMULATOR_NAMES,
  type EmulatorName,
  type LaptopBroker,
  type LaptopPorts,
  type LaptopState,
} from "../local/state.ts";
import { isUp } from "../local/status.ts";
import { Steps } from "../local/steps.ts";
import { port } from "./arguments.ts";

export interface RuntimeOptions {
  readonly emulator?: EmulatorName;
  readonly emulatorPort?: number;
  readonly valkeyPort?: number;
  readonly servePort?: number;
  readonly kafkaPort?: number;
  readonly broker?: LaptopBroker;
}

export function addRuntimeOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--broker <name>", "what carries events; stays what it was, and is kinesis at first").choices([
        "kinesis",
        "kafka",
      ]),
    )
    .addOption(
      new Option("--emulator <name>", "what stands for AWS; stays what it was, and is ministack at first").choices(
        EMULATOR_NAMES,
      ),
    )
    .addOption(new Option("--emulator-port <port>", "port of the AWS emulator").argParser(port))
    .addOption(new Option("--valkey-port <port>", "port of the online store").argParser(port))
    .addOption(new Option("--serve-port <port>", "port of the plain API server").argParser(port))
    .addOption(new Option("--kafka-port <port>", "port of Kafka, where that is the broker").argParser(port));
}

/** What was asked for of the runtime, for `withRuntime`. */
export function wantedRuntime(options: RuntimeOptions): Wanted {
  const { broker, emulator, emulatorPort, valkeyPort, servePort, kafkaPort } = options;
  const wanted = { emulator: emulatorPort, valkey: valkeyPort, serve: servePort, kafka: kafkaPort };
  return { broker, emulator, wanted };
}

interface Wanted {
  readonly wanted?: Partial<LaptopPorts>;
  readonly broker?: LaptopBroker;
  readonly emulator?: EmulatorName;
}

/**
 * Brings the runtime up and goes on with `then`. Ctrl-C at any moment of both ends everything that runs, unless it was up
 * already: what somebody started before is not ended by an interrupted command.
 */
export function withRuntime<T>(
  home: string,
  options: Wanted & { redeploy?: boolean },
  then: (state: LaptopState, context: { steps: Steps; signal: AbortSignal }) => Promise<T>,
): Promise<T> {
  return withLock(home, () =>
    interruptible(async (signal) => {
      const steps = new Steps();
      const wasUp = isUp(home);
      try {
        const state = await up(home, { ...options, steps, signal });
        return await then(state, { steps, signal });
      } catch (error) {
        if (!signal.aborted) throw error;
        if (wasUp) steps.say("\nstopped; what was running before is left running (`freshet down` ends it)");
        else {
          steps.say("\nstopping");
          await down(home, steps);
        }
        throw signal.reason instanceof InterruptedError ? signal.reason : error;
      }
    }),
  );
}
