/** What features/ declares and its index leaves out: nothing refuses it, and nothing is computed for it. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Definitions } from "../core/definition.ts";
import { ROOT } from "../local/home.ts";

const LISTS = {
  entity: "entities",
  stream: "streams",
  featureView: "views",
  batchFeatureView: "batchViews",
  featureService: "services",
} as const satisfies Record<string, keyof Definitions>;

/** @returns a sentence for each, with its repair */
export function unlisted(
  files: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
  definitions: Definitions,
): string[] {
  return Object.entries(files).flatMap(([file, exports]) =>
    Object.entries(exports).flatMap(([name, value]) => {
      const list = LISTS[(value as { kind?: keyof typeof LISTS } | null)?.kind as keyof typeof LISTS];
      if (list === undefined || (definitions[list] as readonly unknown[] | undefined)?.includes(value)) return [];
      return `${file} exports ${name}, which features/index.ts does not list: add it to ${list}`;
    }),
  );
}

/** The modules of features/, by path. */
export async function featureFiles(): Promise<Record<string, Record<string, unknown>>> {
  const names = readdirSync(join(ROOT, "features")).filter((name) => name.endsWith(".ts") && name !== "plan.ts");
  const modules = names.map(async (name) => [`features/${name}`, await import(`../features/${name}`)] as const);
  return Object.fromEntries(await Promise.all(modules));
}
