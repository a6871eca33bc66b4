/** `npm run simulate`. The product's modules are loaded after what they are changed by. */
import { fewerBuckets } from "./hooks.ts";

fewerBuckets();
const { command } = await import("./command.ts");
await command(process.argv.slice(2));
