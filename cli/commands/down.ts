import type { Command } from "commander";
import { freshetHome } from "../../local/home.ts";
import { down } from "../../local/laptop.ts";
import { withLock } from "../../local/lock.ts";
import { Steps } from "../../local/steps.ts";

export function register(program: Command): void {
  program
    .command("down")
    .description("End every process of this checkout. The state stays; `up` goes on with it.")
    .addHelpText("after", "\nExamples:\n  freshet down")
    .action(async () => {
      const home = freshetHome();
      const results = await withLock(home, () => down(home, new Steps()));
      if (results.size === 0) process.stderr.write("nothing was running\n");
    });
}
