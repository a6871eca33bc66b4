import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { encodeArchive } from "../../../adapters/archive/archive-format.ts";
import { ArchiveMirror } from "../../../adapters/offline/mirror.ts";

it("a mirror with a limit refuses what is too much in all before it fetches any of it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "freshet-mirror-"));
  let fetched = 0;
  const body = { transformToByteArray: async () => encodeArchive([]) };
  const send = async () => {
    fetched++;
    return { Body: body };
  };
  try {
    const mirror = new ArchiveMirror({ s3: { send } as never, bucket: "b", folder, maxBytes: 10_000_000 });
    const object = (name: string, bytes: number) => ({ key: `raw/${name}.ndjson.zst`, bytes });
    const first = [object("a", 4_000_000), object("b", 4_000_000)];
    await mirror.fetch(first);
    // What is there already takes no more room.
    await mirror.fetch([...first, object("c", 2_000_000)]);
    expect(fetched).toBe(3);
    await expect(mirror.fetch([...first, object("d", 1), object("e", 2_300_000)])).rejects.toMatchObject({
      code: "range_too_large",
      message: "the range holds 12.3 MB of the archive, and there is room for 10.0 MB",
      repair: "take a shorter range, or use freshet training-set on a machine with a larger disk",
    });
    expect(fetched).toBe(3);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it("a mirror that is given its room frees what earlier runs read, never what this one or another process reads, and refuses the rest", async () => {
  const folder = mkdtempSync(join(tmpdir(), "freshet-mirror-"));
  const bytes = encodeArchive([]);
  const fetched: string[] = [];
  const send = async ({ input }: any) => {
    fetched.push(input.Key);
    return { Body: { transformToByteArray: async () => bytes } };
  };
  const own = join(folder, "b/raw");
  const here = () => readdirSync(own).map((name) => name.split(".")[0]);
  // A disk for ten objects of one byte.
  const room = () => 10 - (existsSync(own) ? here().length : 0);
  const objects = (names: string) => [...names].map((name) => ({ key: `raw/${name}.ndjson.zst`, bytes: 1 }));
  try {
    const mirror = new ArchiveMirror({ s3: { send } as never, bucket: "b", folder, room, repair: "as told" });
    await mirror.fetch(objects("abcd"));
    // Of another process: one that is in use, and one that nobody has wanted for a day.
    for (const name of ["x", "y"]) writeFileSync(join(own, `${name}.ndjson.zst`), bytes);
    const yesterday = Date.now() / 1000 - 86_400;
    utimesSync(join(own, "y.ndjson.zst"), yesterday, yesterday);
    mirror.begin();
    await mirror.fetch(objects("aef"));
    expect(here().sort()).toEqual([..."abcdefxy"]);
    await mirror.fetch(objects("ghi"));
    expect(here().sort()).toEqual([..."aefghix"]);
    fetched.length = 0;
    await expect(mirror.fetch(objects("aklmn"))).rejects.toMatchObject({
      ...{ code: "range_too_large", repair: "as told" },
      message: expect.stringMatching(/^the range holds .* of the archive, and there is room for /),
    });
    expect(fetched).toEqual([]);
    expect(here().sort()).toEqual([..."aefghix"]);
    mirror.begin();
    await mirror.fetch(objects("aklmn"));
    expect(here().sort()).toEqual([..."aklmnx"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it.each(["ENOSPC", "EDQUOT"])("a mirror on a full disk says so, %s, and leaves no half of a file", async (code) => {
  const folder = mkdtempSync(join(tmpdir(), "freshet-mirror-"));
  // No test can fill the disk of the machine it runs on.
  const write = async (file: string, bytes: Buffer) => {
    await writeFile(file, bytes.subarray(0, 3));
    throw Object.assign(new Error(`${code}: write`), { code });
  };
  try {
    const body = { transformToByteArray: async () => encodeArchive([]) };
    const s3 = { send: async () => ({ Body: body }) } as never;
    const mirror = new ArchiveMirror({ s3, bucket: "b", folder, write });
    await expect(mirror.fetch([{ key: "raw/x.ndjson.zst", bytes: 9 }])).rejects.toMatchObject({
      code: "offline_disk",
      message: "the disk is full: objects of the archive are kept on it to be read",
      repair: expect.stringContaining("free space"),
    });
    expect(readdirSync(join(folder, "b/raw"))).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
