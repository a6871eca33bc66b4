/** Code of a function as the Lambda API takes it. */
import { execFileSync } from "node:child_process";
import { venvPython } from "../../local/home.ts";

const PROGRAM =
  "import sys, zipfile; z = zipfile.ZipFile(sys.stdout.buffer, 'w'); z.writestr('index.mjs', sys.stdin.read()); z.close()";

/** @param source of an ES module whose handler is `index.handler` */
export const zipped = (source: string): Buffer => execFileSync(venvPython(), ["-c", PROGRAM], { input: source });
