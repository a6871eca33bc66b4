import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { freshetHome } from "../../local/home.ts";
import { down } from "../../local/laptop.ts";
import { withLock } from "../../local/lock.ts";
import { Steps } from "../../local/steps.ts";

/** Installed once for the checkout. */
const TOOLS = ["venv", "kafka-jars"];

export function register(program: Command): void {
  program
    .command("clean")
    .description("End every process and remove all state: events, features, keys, logs and installed tools.")
    .option("--keep-tools", "keep the installed tools, so that the next start downloads nothing")
    .addHelpText("after", "\nExamples:\n  freshet clean\n  freshet clean --keep-tools")
    .action(async (options: { keepTools?: boolean }) => {
      const home = freshetHome();
      if (!existsSync(home)) return;
      await withLock(home, async () => {
        await down(home, new Steps());
        for (const name of readdirSync(home)) {
          if (TOOLS.includes(name) && options.keepTools) continue;
          rmSync(join(home, name), { recursive: true, force: true });
        }
      });
      if (readdirSync(home).length === 0) rmSync(home, { recursive: true });
    });
}
