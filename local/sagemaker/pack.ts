import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { promisify } from "node:util";

const run = promisify(execFile);

/** `model.tar.gz` as SageMaker writes it: the folder's entries without a folder above them. */
export async function pack(folder: string, file: string): Promise<void> {
  await run("tar", ["-czf", file, "-C", folder, "--", ...readdirSync(folder)]);
}
