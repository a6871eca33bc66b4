import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { Argument, type Command } from "commander";
import { plan } from "../../features/plan.ts";
import { typescriptClient } from "../client-typescript.ts";
import { EXIT } from "../exit.ts";

export function register(program: Command): void {
  program
    .command("client")
    .description("Write a typed client of this app's API: a wrong feature, key or field does not compile.")
    .addArgument(new Argument("<language>", "language of the client").choices(["typescript"]))
    .option("--out <file>", "where to write it; printed when left out")
    .option("--check", "exit 1 when the file is not what the definitions give (for CI)")
    .option("--json", "print what was written as JSON")
    .addHelpText(
      "after",
      "\nThe file needs fetch alone: Node 20 and later, browsers, workers. For Python: clients/python.\n\nExamples:\n  freshet client typescript --out ../shop/src/freshet.ts\n  freshet client typescript --out ../shop/src/freshet.ts --check",
    )
    .action((_language: string, options: { out?: string; check?: boolean; json?: boolean }, command: Command) => {
      const text = `${typescriptClient(plan)}\n`;
      if (options.out === undefined) {
        if (options.check) command.error("error: --check needs --out: the file to compare", { exitCode: EXIT.usage });
        process.stdout.write(text);
        return;
      }
      const file = resolve(options.out);
      const current = existsSync(file) && readFileSync(file, "utf8") === text;
      if (options.check) {
        if (!current) process.exitCode = EXIT.failed;
      } else if (!current) {
        mkdirSync(dirname(file), { recursive: true });
        writeFileSync(file, text);
      }
      const told = { file, plan: plan.hash, current, written: !current && !options.check };
      const said = current ? "is current" : options.check ? "is not what the definitions give" : "written";
      process.stdout.write(options.json ? `${JSON.stringify(told)}\n` : `${file}: ${said}\n`);
    });
}
