/** What pages and help texts tell people to type: commands, their words and their options are there. */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Command } from "commander";
import { expect, it } from "vitest";
import { ROOT } from "../../local/home.ts";

const FOLDERS = [".", "docs", "features", "schemas", "training", "bench", "core", "clients/python"];
const pages = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith(".md") && name !== "CHANGELOG.md")
    .map((name) => join(folder, name)),
);

const program = new Command("freshet");
for (const file of readdirSync(join(ROOT, "cli", "commands"))) {
  (await import(`../../cli/commands/${basename(file, ".ts")}.ts`)).register(program);
}

/** Lines of code on a page, without comments: those of blocks, and spans within text. */
function codeOf(text: string): string[] {
  const blocks = [...text.matchAll(/^ *```.*\n([\s\S]*?)^ *```/gm)].map(([, block]) => block);
  const spans = [...text.replaceAll(/^ *```[\s\S]*?^ *```/gm, "").matchAll(/`([^`\n]+)`/g)].map(([, span]) => span);
  return [...blocks.join("\n").replaceAll("\\\n", " ").split("\n"), ...spans].map((line) =>
    line.replace(/\s+# .*$/, ""),
  );
}

/** The words after `freshet`, of each call in the lines. */
const callsIn = (lines: readonly string[]): string[][] =>
  lines
    .flatMap((line) => line.split(/&&|\||;|\$\(/))
    .map((part) => /(?:^|[\s"])freshet ((?:--)?[a-z].*)$/.exec(part)?.[1])
    .flatMap((words) => (words === undefined ? [] : [words.replace(/["').,:]+$/, "").split(/\s+/)]));

/** @returns what is wrong with the call, or null */
function wrongWith(words: readonly string[]): string | null {
  const [name, ...rest] = words;
  if (name.startsWith("--")) return ["--help", "--version"].includes(name) ? null : `freshet has no ${name}`;
  let command = program.commands.find((one) => one.name() === name);
  if (command === undefined) return `there is no command ${name}`;
  if (command.commands.length > 0) {
    const word = rest.find((each) => /^[a-z]/.test(each));
    const sub = command.commands.find((one) => one.name() === word);
    if (sub === undefined && word !== undefined) return `${name} has no ${word}`;
    command = sub ?? command;
  }
  const known = [...command.options.map(({ long }) => long), "--help"];
  const unknown = rest
    .flatMap((each) => /^\[?(--[a-z][a-z-]*)/.exec(each)?.[1] ?? [])
    .find((each) => !known.includes(each));
  return unknown === undefined ? null : `${command.name()} has no ${unknown}`;
}

const told = (calls: readonly string[][]): string[] =>
  calls.flatMap((words) => {
    const wrong = wrongWith(words);
    return wrong === null ? [] : [`${wrong}: freshet ${words.join(" ")}`];
  });

it("finds what is not there", () => {
  const text =
    "`freshet nothing` and `freshet keys mend x`\n```sh\nfreshet up --fast  # quickly\nfreshet status --json\n```\n";
  expect(told(callsIn(codeOf(text)))).toEqual([
    "up has no --fast: freshet up --fast",
    "there is no command nothing: freshet nothing",
    "keys has no mend: freshet keys mend x",
  ]);
});

it("every command that a page names is there, with the words and options that it gives it", () => {
  const found = pages.map((page) => ({ page, calls: callsIn(codeOf(readFileSync(join(ROOT, page), "utf8"))) }));
  expect(found.reduce((sum, { calls }) => sum + calls.length, 0)).toBeGreaterThan(150);
  expect(found.flatMap(({ page, calls }) => told(calls).map((wrong) => `${page}: ${wrong}`))).toEqual([]);
});

it("every example of a help text is one that its command takes", () => {
  const all = program.commands.flatMap((command) => [command, ...command.commands]);
  const calls = all.flatMap((command) => {
    let text = "";
    command.configureOutput({ writeOut: (part) => void (text += part) }).outputHelp();
    return callsIn(text.split("\n").filter((line) => /^ {2,}(\w+=\S+ )*freshet /.test(line)));
  });
  expect(calls.length).toBeGreaterThan(90);
  expect(told(calls)).toEqual([]);
});
