/** Which emulator a home has, and what is to be done about that before anything is started. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../core/errors.ts";
import { emulatorNamed } from "./emulator-kinds.ts";
import { stopPart } from "./parts.ts";
import { isRunning, readRecord } from "./processes.ts";
import { type EmulatorName, readState, updateState } from "./state.ts";
import type { Steps } from "./steps.ts";

export interface EmulatorWish {
  readonly steps: Steps;
  readonly signal: AbortSignal;
  /** For a home that has none yet. @default the one that it has, else ministack */
  readonly emulator?: EmulatorName;
}

/** @throws FreshetError `emulator_fixed`, and what installing one throws */
export async function chooseEmulator(home: string, { emulator: wanted, steps, signal }: EmulatorWish): Promise<void> {
  const { emulator: recorded = "ministack", deployment } = readState(home);
  if (wanted !== undefined && wanted !== recorded && deployment !== undefined) {
    throw new FreshetError("emulator_fixed", `this home is deployed to ${recorded} already, asked for ${wanted}`, {
      field: "emulator",
      repair: "run `make clean` first, or set FRESHET_HOME to another folder",
    });
  }
  const { name, install, keepsState, external } = emulatorNamed(wanted ?? recorded);
  if (install !== undefined) await steps.step(name, (note) => install(home, note, signal));
  updateState(home, { emulator: name });
  if (keepsState || external || deployment === undefined || isRunning(readRecord(home, "emulator"))) return;
  // Of what it held nothing is left: an online store beside it would know events that no archive has.
  steps.say(`  ! ${name} kept nothing when it ended: everything begins anew`);
  for (const part of ["serve", "mapping", "kafka", "valkey"] as const) await stopPart(home, part);
  for (const folder of ["kafka", "valkey"]) rmSync(join(home, folder), { recursive: true, force: true });
  updateState(home, { deployment: undefined, apiKey: undefined, cleanShutdown: true, storeWhole: false });
}
