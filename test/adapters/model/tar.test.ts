import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { readTarGz } from "../../../adapters/model/tar.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

const FIXTURE = join(import.meta.dirname, "..", "..", "fixtures", "models", "fraud");
const tar = (folder: string, ...entries: string[]) =>
  execFileSync("tar", ["-czf", "-", "-C", folder, ...entries], { maxBuffer: 1 << 28 });

describe("a packed model", () => {
  it("is read as tar packed it, with or without ./ and folders", async () => {
    for (const entries of [readdirSync(FIXTURE), ["."]]) {
      const files = await readTarGz(tar(FIXTURE, ...entries));
      expect(Object.keys(files).sort()).toEqual(readdirSync(FIXTURE).sort());
      for (const name of Object.keys(files)) expect(files[name]).toEqual(readFileSync(join(FIXTURE, name)));
    }
  });

  it("keeps files of zero bytes, of whole blocks, and in folders", async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "a"));
    for (const size of [0, 1, 511, 512, 513]) writeFileSync(join(folder, "a", String(size)), Buffer.alloc(size, 7));
    const files = await readTarGz(tar(folder, "a"));
    expect(
      Object.entries(files)
        .map(([name, { length }]) => `${name} ${length}`)
        .sort(),
    ).toEqual([0, 1, 511, 512, 513].map((size) => `a/${size} ${size}`).sort());
  });

  it("is refused when it is damaged, cut, empty, too large or something else", async () => {
    const whole = tar(FIXTURE, ".");
    await expect(readTarGz(Buffer.from("no gzip"))).rejects.toThrow("the packed model is no gzip");
    await expect(readTarGz(whole.subarray(0, whole.length - 200))).rejects.toThrow("the packed model is no gzip");
    await expect(readTarGz(gzipSync(Buffer.alloc(1_024)))).rejects.toThrow("the packed model holds no file");
    await expect(readTarGz(gzipSync(Buffer.alloc(2_048, 65)))).rejects.toThrow("has a damaged entry at byte 0");
    await expect(readTarGz(whole, 10_000)).rejects.toThrow("unpacks to more than 10000 bytes");
  });
});
