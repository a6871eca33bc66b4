/** Pages hold together: links lead somewhere, what they name is there, and lists that claim to be whole are. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, normalize } from "node:path";
import { expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const SKIPPED = new Set(["node_modules", "dist"]);
function pagesIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    if (entry.name.startsWith(".") || entry.name.startsWith("cdk.out") || SKIPPED.has(entry.name)) return [];
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return pagesIn(path);
    return path.endsWith(".md") ? [path] : [];
  });
}
const pages = pagesIn(".");
const withoutCode = (text: string) => text.replaceAll(/^ *```[\s\S]*?^ *```/gm, "");

interface Link {
  readonly page: string;
  readonly words: string;
  /** Path in the repository. */
  readonly target: string;
  /** A heading's, empty for the whole page. */
  readonly anchor: string;
}
const links = pages.flatMap((page): Link[] =>
  [...withoutCode(read(page)).matchAll(/\[([^\][]*)\]\(([^()\s]+)\)/g)]
    .filter(([, , address]) => !/^[a-z]+:/.test(address))
    .map(([, words, address]) => {
      const [path, anchor = ""] = address.split("#");
      return { page, words, target: path === "" ? page : normalize(join(dirname(page), path)), anchor };
    }),
);

/** As GitHub makes them. */
const anchorsOf = (page: string) =>
  [...withoutCode(read(page)).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_\- ]/gu, "")
      .replaceAll(" ", "-"),
  );

it("every link leads to a file, and to a heading where it names one", () => {
  expect(links.length).toBeGreaterThan(150);
  const broken = links.filter(
    ({ target, anchor }) => !existsSync(join(ROOT, target)) || (anchor !== "" && !anchorsOf(target).includes(anchor)),
  );
  expect(broken).toEqual([]);
});

it("a link that names a decision by its number leads to that decision", () => {
  const wrong = links.filter(({ words, target }) => {
    const named = /\b(\d{4})\b/.exec(words)?.[1];
    const meant = /^docs\/decisions\/(\d{4})-/.exec(target)?.[1];
    return named !== undefined && meant !== undefined && named !== meant;
  });
  expect(wrong).toEqual([]);
});

it("decisions are numbered without a gap, and the list has each of them once, in order", () => {
  const decisions = readdirSync(join(ROOT, "docs/decisions"))
    .filter((name) => /^\d/.test(name))
    .sort();
  expect(decisions.map((name) => Number(name.slice(0, 4)))).toEqual(decisions.map((_, i) => i + 1));
  const listed = links.filter(({ page }) => page === "docs/decisions/README.md").map(({ target }) => basename(target));
  expect(listed).toEqual(decisions);
});

it("files that a page names are there", () => {
  const folders = readdirSync(ROOT, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
  // Decisions and the changelog tell of what was.
  const told = pages.filter((page) => !page.startsWith("docs/decisions/") && page !== "CHANGELOG.md");
  const named = told.flatMap((page) =>
    [...read(page).matchAll(/`([a-z]+)\/([\w./-]+)`/g)]
      .filter(([, folder]) => folders.includes(folder))
      .map(([, folder, rest]) => ({ page, path: `${folder}/${rest}` })),
  );
  expect(named.length).toBeGreaterThan(200);
  expect(named.filter(({ path }) => !existsSync(join(ROOT, path)))).toEqual([]);
});

it("the architecture's table of parts has every function", () => {
  const functions = readdirSync(join(ROOT, "functions")).filter((name) => name.endsWith(".ts"));
  const text = read("docs/architecture.md");
  expect(functions.filter((name) => !text.includes(`\`functions/${name}\``))).toEqual([]);
});

it("the README names every command, and pages name no make target that there isn't", () => {
  const table = /^## Commands$([\s\S]*?)^## /m.exec(read("README.md"))![1];
  const commands = readdirSync(join(ROOT, "cli/commands")).map((name) => basename(name, ".ts"));
  expect(commands.filter((name) => !table.includes(`\`${name}\``))).toEqual([]);
  const targets = new Set([...read("Makefile").matchAll(/^([a-z-]+):/gm)].map(([, name]) => name));
  const unknown = pages.flatMap((page) =>
    [...read(page).matchAll(/(?:`|^|&& )make ([a-z-]+)/gm)]
      .filter(([, name]) => !targets.has(name))
      .map(([words]) => `${page}: ${words}`),
  );
  expect(unknown).toEqual([]);
});
