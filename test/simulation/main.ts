/** `npm run simulate`. The product's modules are loaded after what they are changed by. */
import { changeModules } from "./hooks.ts";

changeModules();
const { command } = await import("./command.ts");
await command(process.argv.slice(2));
