/** Schemas that use types of others in the registry: followed, and made into one that stands alone. */
import { selfContained } from "../avro/self-contained.ts";
import type { FoundSchema } from "./schema-registry.ts";

/** Of Avro, as a registry of Confluent's API gives it. */
export interface RegisteredSchema {
  readonly schema: string;
  readonly references: readonly { readonly subject: string; readonly version: number }[];
}

/** Far beyond what anybody writes; every one is a call. */
const MAX_SCHEMAS = 64;
const MAX_BYTES = 512 * 1024;

/**
 * @param ask null for a version that the registry does not have, `unreadable` for one that is not Avro
 * @returns null when the registry lacks a part; without a text when the parts are no Avro, too many, too large, or go in a circle
 */
export async function whole(
  root: RegisteredSchema,
  ask: (subject: string, version: number) => Promise<RegisteredSchema | null | "unreadable">,
): Promise<FoundSchema | null> {
  if (root.references.length === 0) return { text: root.schema };
  const begun = new Set<string>();
  /** Those first that others use. */
  const texts = new Map<string, string>();
  let bytes = 0;
  const follow = async ({ references }: RegisteredSchema): Promise<"whole" | "missing" | "unreadable"> => {
    for (const { subject, version } of references) {
      const key = JSON.stringify([subject, version]);
      if (texts.has(key)) continue;
      if (begun.has(key) || begun.size === MAX_SCHEMAS) return "unreadable";
      begun.add(key);
      const part = await ask(subject, version);
      if (part === null) return "missing";
      if (part === "unreadable") return part;
      bytes += Buffer.byteLength(part.schema);
      if (bytes > MAX_BYTES) return "unreadable";
      const followed = await follow(part);
      if (followed !== "whole") return followed;
      texts.set(key, part.schema);
    }
    return "whole";
  };
  const followed = await follow(root);
  if (followed === "missing") return null;
  if (followed === "unreadable") return { text: null };
  try {
    return { text: selfContained(root.schema, [...texts.values()]) };
  } catch {
    return { text: null };
  }
}
