/** Examples at the end of a command's help. */
import type { Command } from "commander";

const shown = (lines: readonly string[]): string => `\nExamples:\n${lines.map((line) => `  ${line}`).join("\n")}`;

/**
 * Shows them with the command, and with each of its subcommands those that are its own. To be called when it has them all.
 * @param lines as they are typed
 */
export function addExamples(command: Command, lines: readonly string[]): void {
  command.addHelpText("after", shown(lines));
  for (const sub of command.commands) {
    const own = lines.filter((line) => `${line} `.includes(`freshet ${command.name()} ${sub.name()} `));
    sub.addHelpText("after", shown(own));
  }
}
