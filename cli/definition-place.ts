/** Where in features/ a mistake lies: errors of definitions name views and streams, people edit files. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { DefinitionError, FreshetError } from "../core/errors.ts";
import { ROOT } from "../local/home.ts";

const FOLDER = join(ROOT, "features");
const DECLARED_BY = {
  view: "(?:f|batchF)eatureView",
  service: "featureService",
  stream: "stream",
  entity: "entity",
} as const;

/**
 * Names the file of a definition that was refused, as `features/card.ts:18`; null when the error names none that is there.
 * @param message as the plan's refusals write it: `feature card_activity:tx_count …`, `… of view card_activity …`
 */
export function placeOf(message: string): string | null {
  for (const [, what, name, feature] of message.matchAll(
    /\b(feature|view|service|stream|entity) ([a-z][a-z0-9_]*)(?::([a-z][a-z0-9_]*))?/g,
  )) {
    const call = what === "feature" ? DECLARED_BY.view : DECLARED_BY[what as keyof typeof DECLARED_BY];
    const place = find(new RegExp(`\\b${call}\\(\\s*"${name}"`), feature);
    if (place !== null) return place;
  }
  return null;
}

function find(declaration: RegExp, feature: string | undefined): string | null {
  for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".ts"))) {
    const text = readFileSync(join(FOLDER, file), "utf8");
    const start = text.search(declaration);
    if (start < 0) continue;
    const own = feature === undefined ? -1 : text.slice(start).search(new RegExp(`^\\s*"?${feature}"?:`, "m"));
    const offset = own < 0 ? start : start + own + (/^\s*/.exec(text.slice(start + own))?.[0].length ?? 0);
    return `features/${file}:${text.slice(0, offset).split("\n").length}`;
  }
  return null;
}

/**
 * An error that a file of features/ threw while it was loaded, told without a stack: an import that does not exist, a
 * function called wrongly, files that import each other. Any other error comes back as it is.
 */
export function tellLoadFailure(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof FreshetError) return error;
  const absent = /Cannot find module '([^']+)' imported from (\S+)/.exec(error.message)?.slice(1).map(fromRoot);
  if (absent?.[1].startsWith("features/")) {
    return new DefinitionError("definition_invalid", `${absent[1]} imports ${absent[0]}, which is not there`, {
      repair: "correct the path; imports name their file with its ending",
      cause: error,
    });
  }
  const place = thrownIn(error.stack ?? "");
  if (place === null) return error;
  const uncalled = /^(\w+)\.(over|every|delayedBy|describe) is not a function/.exec(error.message);
  if (uncalled !== null) {
    return new DefinitionError("operator_uncalled", `${place}: ${uncalled[1]} is a function that makes a feature`, {
      repair: `call it: ${uncalled[1]}(…).${uncalled[2]}(…)`,
      cause: error,
    });
  }
  const missing = /'([^']*definition\.ts)' does not provide an export named '(\w+)'/.exec(error.message);
  if (missing !== null) {
    return new DefinitionError(
      "operator_unknown",
      `${place} imports ${missing[2]}, which ${missing[1]} does not have`,
      {
        repair: "features/README.md lists the operators and conditions that there are",
        cause: error,
      },
    );
  }
  return new DefinitionError("definition_invalid", `${place}: ${error.message}`, {
    repair: "repair it there; `npx tsc --noEmit` may say more",
    cause: error,
  });
}

/** `features/card.ts:18` when the innermost frame, or the file that could not be linked, lies in features/. */
function thrownIn(stack: string): string | null {
  // Of a syntax error the file stands in the first line; else in the first frame that is not Node's or the words' own.
  const lines = stack.split("\n").filter((line) => /file:\/\//.test(line) && !line.includes("/core/definition.ts:"));
  const found = /(file:\/\/[^\s)]+?):(\d+)/.exec(lines[0] ?? "");
  if (found === null) return null;
  const path = fromRoot(fileURLToPath(found[1]));
  return path.startsWith("features") ? `${path}:${found[2]}` : null;
}

const fromRoot = (path: string): string => relative(ROOT, path);
