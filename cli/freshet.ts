#!/usr/bin/env node
/** The `freshet` command. */
import { run } from "./program.ts";

// A reader that has seen enough, as `head`, is no failure: what is under way comes to its end without an audience.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
}

await run(process.argv.slice(2));
