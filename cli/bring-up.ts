import { type Command, Option } from "commander";
import { FreshetError } from "../core/errors.ts";
import type { LaptopPorts } from "../local/deploy.ts";
import { InterruptedError, interruptible } from "../local/interrupt.ts";
import { down, up } from "../local/laptop.ts";
import { withLock } from "../local/lock.ts";
import type { LaptopState } from "../local/state.ts";
import { Steps } from "../local/steps.ts";

export interface PortOptions {
  readonly emulatorPort?: number;
  readonly valkeyPort?: number;
  readonly servePort?: number;
}

export function addPortOptions(command: Command): Command {
  return command
    .addOption(new Option("--emulator-port <port>", "port of the AWS emulator").argParser(parsePort))
    .addOption(new Option("--valkey-port <port>", "port of the online store").argParser(parsePort))
    .addOption(new Option("--serve-port <port>", "port of the plain API server").argParser(parsePort));
}

export function wantedPorts(options: PortOptions): Partial<LaptopPorts> {
  return { emulator: options.emulatorPort, valkey: options.valkeyPort, serve: options.servePort };
}

export function parsePort(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port;
  throw new FreshetError("port_invalid", `a port is a number from 1 to 65535, given "${text}"`, {
    repair: "give a port, or leave the option out and a free one is chosen",
  });
}

/** Brings the runtime up and goes on with `then`; Ctrl-C at any moment of both ends everything that runs. */
export function withRuntime<T>(
  home: string,
  options: { wanted?: Partial<LaptopPorts>; redeploy?: boolean },
  then: (state: LaptopState, context: { steps: Steps; signal: AbortSignal }) => Promise<T>,
): Promise<T> {
  return withLock(home, () =>
    interruptible(async (signal) => {
      const steps = new Steps();
      try {
        const state = await up(home, { ...options, steps, signal });
        return await then(state, { steps, signal });
      } catch (error) {
        if (!signal.aborted) throw error;
        steps.say("\nstopping");
        await down(home, steps);
        throw signal.reason instanceof InterruptedError ? signal.reason : error;
      }
    }),
  );
}
