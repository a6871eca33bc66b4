/** Worker processes of a function: children of the emulator, told by their environment, which only Linux shows. */
import { readFileSync } from "node:fs";
import { groupMembers } from "./process-table.ts";

/** @param name the end of the function's name, as `aggregate` */
export function functionWorkers(emulatorPid: number, name: string): number[] {
  return groupMembers(emulatorPid).filter((member) => {
    try {
      const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${member}/status`, "utf8"))?.[1];
      const environment = readFileSync(`/proc/${member}/environ`, "utf8").split("\0");
      return (
        Number(parent) === emulatorPid &&
        environment.some((each) => /^AWS_LAMBDA_FUNCTION_NAME=.*-/.test(each) && each.endsWith(`-${name}`))
      );
    } catch {
      // It ended between the look at the group and this one.
      return false;
    }
  });
}
