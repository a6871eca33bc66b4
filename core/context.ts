/** What is known of an entity as text for a language model's prompt: whole lines within a budget, the most informative first. */
import type { FeatureValue, Scalar, Value } from "./plan.ts";

export interface ContextFeature extends FeatureValue {
  readonly name: string;
  readonly description: string;
  readonly unit: string;
  /** How many feature services take it. */
  readonly services: number;
  /** What replaces it, where it is on its way out; null where it is not. */
  readonly deprecated: string | null;
}
export interface ContextOptions {
  readonly entity: string;
  readonly id: string;
  readonly asOfMs: number;
  /** Why values may lag behind; null where they do not. */
  readonly degraded: string | null;
  /** Of values from a snapshot: how long ago they were all there was. */
  readonly snapshotAgeMs?: number | null;
  readonly format: "text" | "markdown";
  readonly maxTokens: number;
}
export interface Context {
  readonly text: string;
  readonly tokens: number;
}

/**
 * Tokens by a rule that anyone can repeat: a third of the UTF-8 bytes, rounded up. Prose has fewer, as a rule; names and
 * numbers, which most of this is, about as many.
 */
export const tokensOf = (text: string): number => Math.ceil(utf8Length(text) / BYTES_A_TOKEN);
const BYTES_A_TOKEN = 3;

function utf8Length(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0)!;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}

/** Values first, then what models are fed, then the fresher, then by name. */
export function byInformation(a: ContextFeature, b: ContextFeature): number {
  const rank = (one: ContextFeature) => (one.status === "PRESENT" ? 0 : 1);
  return (
    rank(a) - rank(b) ||
    b.services - a.services ||
    (b.eventTimeMs ?? 0) - (a.eventTimeMs ?? 0) ||
    (a.name < b.name ? -1 : 1)
  );
}

/** @returns null when not even what is left out can be said within the budget */
export function writeContext(features: readonly ContextFeature[], options: ContextOptions): Context | null {
  const { format, maxTokens } = options;
  const head = headOf(options);
  const present = features.filter(({ status }) => status === "PRESENT").sort(byInformation);
  const absent = features.length - present.length;
  // In Markdown, what follows a list's item without a gap belongs to it.
  const gap = format === "markdown" ? "\n\n" : "\n";
  const lines: string[] = [];
  let left = present.length;
  let bytes = utf8Length(head);
  const fits = (more: number) => {
    const foot = footOf(left, absent);
    return Math.ceil((bytes + more + (foot === "" ? 0 : gap.length + utf8Length(foot))) / BYTES_A_TOKEN) <= maxTokens;
  };
  if (!fits(0)) return null;
  for (const feature of present) {
    const line = lineOf(feature, options.asOfMs, format);
    const more = 1 + utf8Length(line);
    left--;
    // The foot never grows from here on, so what fits now fits in the end.
    if (fits(more)) {
      lines.push(line);
      bytes += more;
    } else left++;
  }
  const foot = footOf(left, absent);
  const before = lines.length === 0 ? "\n" : gap;
  const text = [head, ...lines].join("\n") + (foot === "" ? "" : before + foot);
  return { text, tokens: tokensOf(text) };
}

function headOf({ entity, id, asOfMs, degraded, snapshotAgeMs = null, format }: ContextOptions): string {
  const since = snapshotAgeMs === null ? "" : `, as they were ${ageInWords(snapshotAgeMs)}`;
  const lag = degraded === null ? "" : ` Values may lag behind (${degraded}${since}).`;
  const name = quoted(id);
  const title = format === "markdown" ? `## ${entity} ${codeSpan(name)}\n\n` : `${entity} ${name}, `;
  return `${title}as of ${new Date(asOfMs).toISOString()}.${lag}${format === "markdown" ? "\n" : ""}`;
}

function footOf(left: number, absent: number): string {
  const parts = [
    ...(left > 0 ? [`${left} left out for the limit of tokens`] : []),
    ...(absent > 0 ? [`${absent} without a value`] : []),
  ];
  return parts.length === 0 ? "" : `Further features: ${parts.join(", ")}.`;
}

function lineOf(feature: ContextFeature, asOfMs: number, format: ContextOptions["format"]): string {
  const { name, description, unit, value, eventTimeMs, deprecated } = feature;
  const words = format === "markdown" ? plainMarkdown : oneLine;
  const what = [
    words(description.trimEnd().replace(/\.$/, "")),
    eventTimeMs === null ? "" : ageInWords(asOfMs - eventTimeMs),
    deprecated === null ? "" : "deprecated",
  ];
  const told = what.filter((part) => part !== "").join(", ");
  const text = valueInWords(value);
  const written = format === "markdown" && text.includes('"') ? codeSpan(text) : text;
  const shown = `${written}${unit === "" ? "" : ` ${words(unit)}`}`;
  if (format === "text") return `${name}: ${shown}${told === "" ? "" : ` (${told})`}`;
  return `- **${name}**: ${shown}${told === "" ? "" : ` — ${told}`}`;
}

/** Texts are quoted, so that no value can pass for another line, and hide nothing. Numbers have six digits. */
export function valueInWords(value: Value): string {
  if (typeof value === "object" && value !== null) return `[${value.map(scalarInWords).join(", ")}]`;
  return scalarInWords(value);
}
function scalarInWords(value: Scalar): string {
  if (typeof value === "string") return quoted(value);
  if (typeof value !== "number" || Number.isInteger(value)) return JSON.stringify(value);
  return String(Number(value.toPrecision(6)));
}

/**
 * What ends a line for some readers, turns the direction of others, or is read by a model and seen by nobody, as tags (U+E0000 on). The two
 * joiners are left: scripts and emoji need them.
 */
const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/gu;

/** A text as JSON writes it, with escapes for what is not seen. */
const quoted = (text: string): string => seen(JSON.stringify(text));

const seen = (text: string): string =>
  text.replace(UNSEEN, (character) =>
    // By UTF-16 units, of which an escape has one.
    character.replace(/[\s\S]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`),
  );

/** As Markdown that says nothing by itself: no link, no image, no tag. For a text that does not begin or end with a blank. */
function codeSpan(text: string): string {
  const longest = Math.max(0, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  // One blank at each end is no part of the text.
  const gap = /^`|`$/.test(text) ? " " : "";
  return `${fence}${gap}${text}${gap}${fence}`;
}

const oneLine = (text: string): string => seen(text.replaceAll(/\s+/g, " ").trim());

/**
 * What a tenant says of its features is theirs to say, but as text alone. Words that renderers make links of by themselves, most of them
 * whether or not a character is escaped, are code; an underscore within a word says nothing.
 */
const plainMarkdown = (text: string): string =>
  oneLine(text).replace(/\S+/g, (word) => (LINKED.test(word) ? codeSpan(word) : word.replace(MARKUP, "\\$&")));
const LINKED = /:\/\/|www\.|@\S/i;
const MARKUP = /[[\]<`\\*~$]|(?<![\p{L}\p{N}])_|_(?![\p{L}\p{N}])|&(?=[#\w]+;)/gu;

const STEPS = [
  [86_400_000, "day"],
  [3_600_000, "hour"],
  [60_000, "minute"],
  [1_000, "second"],
] as const;

/** `3 minutes ago`, in whole units rounded down. */
export function ageInWords(ageMs: number): string {
  const step = STEPS.find(([unitMs]) => ageMs >= unitMs);
  if (step === undefined) return "just now";
  const [unitMs, unit] = step;
  const count = Math.floor(ageMs / unitMs);
  return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
}
