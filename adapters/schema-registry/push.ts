/** Brings the shipped versions of a contract into a registry, under one subject. Done again, it changes nothing. */
import { FreshetError } from "../../core/errors.ts";
import { type CompatibilityMode, type ShippedRevision, unreadableBy } from "../avro/compatibility.ts";
import type { RecordSchema } from "../avro/fingerprint.ts";
import type { SchemaId } from "../avro/framing.ts";
import type { SchemaPusher } from "./schema-registry.ts";

export interface SubjectToPush {
  readonly contract: string;
  readonly subject: string;
  readonly compatibility: CompatibilityMode;
  /** Oldest first, the last is the one that is written. */
  readonly shipped: readonly ShippedRevision[];
}

export interface PushedSubject {
  readonly contract: string;
  readonly subject: string;
  /** What the registry makes later versions keep; `was` is null where the subject had no rule of its own. */
  readonly rule: { readonly was: string | null; readonly is: string };
  /** `passed over`: it is not there, and a newer one is, whose place as the latest it would take. */
  readonly versions: readonly {
    readonly revision: number;
    readonly status: "new" | "unchanged" | "passed over";
    /** As producers name it; null for one that is not there, and in a dry run for a new one. */
    readonly id: SchemaId | null;
  }[];
}

/**
 * @param dryRun asks, and changes nothing
 * @throws FreshetError `schema_unreadable_there` for a version that others have registered and the contract cannot read,
 *   `schema_refused`; InfrastructureError
 */
export async function pushSubject(pusher: SchemaPusher, given: SubjectToPush, dryRun: boolean): Promise<PushedSubject> {
  const { contract, subject, compatibility, shipped } = given;
  if (compatibility !== "none") await requireReadable(pusher, given);
  const rule = { was: await pusher.compatibility(subject), is: pusher.ruleOf(compatibility) };
  // Before the first version: what is registered meanwhile has to keep it, too.
  if (!dryRun && rule.was !== rule.is) await pusher.setCompatibility(subject, rule.is);
  const texts = shipped.map(({ schema }) => ({ subject, text: JSON.stringify(schema) }));
  const known: (SchemaId | null)[] = [];
  for (const text of texts) known.push(await pusher.lookUp(text));
  const newest = known.findLastIndex((id) => id !== null);
  const versions: PushedSubject["versions"][number][] = [];
  for (const [i, { revision }] of shipped.entries()) {
    const id = known[i]!;
    if (id !== null) versions.push({ revision, status: "unchanged", id });
    else if (i < newest) versions.push({ revision, status: "passed over", id });
    else versions.push({ revision, status: "new", id: dryRun ? null : await pusher.register(texts[i]!, rule.is) });
  }
  return { contract, subject, rule, versions };
}

/** What producers may write by the registry has to be what the contract reads. */
async function requireReadable(pusher: SchemaPusher, { contract, subject, shipped }: SubjectToPush): Promise<void> {
  const reader = shipped.at(-1)!.schema;
  for (const [i, text] of (await pusher.versions(subject)).entries()) {
    const [problem] = unreadableBy(reader, JSON.parse(text) as RecordSchema, `version ${i + 1} of ${subject}`);
    if (problem === undefined) continue;
    throw new FreshetError(
      "schema_unreadable_there",
      `${contract} cannot read what is registered: ${problem.message}`,
      {
        field: problem.field,
        repair: "delete that version from the registry when nobody writes it, or push to another subject",
      },
    );
  }
}
