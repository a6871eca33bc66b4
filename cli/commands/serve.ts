import { type Command, Option } from "commander";
import { ENVIRONMENT } from "../../functions/shared/environment.ts";
import { freshetHome } from "../../local/home.ts";
import { serveEnvironment } from "../../local/parts.ts";
import { LOOPBACK } from "../../local/ports.ts";
import { port } from "../arguments.ts";
import { requireRunning } from "../running.ts";

export function register(program: Command): void {
  program
    .command("serve")
    .description("The API as a plain HTTP server, as in a container. `up` runs one beside the emulator.")
    .addOption(new Option("--port <port>", "port to listen on").argParser(port).default(8080))
    .option("--host <address>", "address to listen on", LOOPBACK)
    .addHelpText(
      "after",
      "\nSettings come from the environment; where they are not set, from the running laptop.\n\nExamples:\n  freshet serve --port 8080",
    )
    .action(async (options: { port: number; host: string }) => {
      if (process.env[ENVIRONMENT.keysTable] === undefined) {
        const { ports, deployment } = requireRunning(freshetHome());
        Object.assign(process.env, serveEnvironment(ports.emulator, deployment));
      }
      // After the environment is set: modules below read it as they load.
      const { startServer } = await import("../../functions/api/server.ts");
      await startServer(options);
    });
}
