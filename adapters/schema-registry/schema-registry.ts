/** What messages in a registry's framing need of that registry. `confluent.ts` and `glue.ts` are the two kinds. */
import type { SchemaId } from "../avro/framing.ts";

export interface FoundSchema {
  /** Avro, as JSON text that stands alone; null for a schema of another format, and for one of parts that cannot be put together. */
  readonly text: string | null;
}

export interface SchemaRegistry {
  /** Ids mean nothing without it: the same id is another schema elsewhere. */
  readonly name: string;
  /**
   * @returns null when the registry says that it has no such schema, or lacks one that it is made of, and only then
   * @throws InfrastructureError `schema_registry_unavailable` for every other answer, and for none
   */
  find(id: SchemaId): Promise<FoundSchema | null>;
}

/** One version of a contract that is to be in the registry, with what later ones must keep. */
export interface SchemaToPush {
  readonly subject: string;
  readonly text: string;
}

/** What `freshet schemas push` needs. All throw FreshetError, `schema_refused` for what the registry finds incompatible. */
export interface SchemaPusher {
  readonly name: string;
  /** The id of exactly this schema under this subject; null where it isn't registered. */
  lookUp(schema: SchemaToPush): Promise<SchemaId | null>;
  /** All versions of a subject, oldest first; empty for one that is not there. */
  versions(subject: string): Promise<readonly string[]>;
  /** What the registry makes new versions keep, in its own word; null where the subject has no rule of its own. */
  compatibility(subject: string): Promise<string | null>;
  /** Our word for a rule in the registry's. */
  readonly ruleOf: (mode: string) => string;
  setCompatibility(subject: string, rule: string): Promise<void>;
  register(schema: SchemaToPush, rule: string): Promise<SchemaId>;
}

/** The subject of a topic's values, as serializers name it by themselves: Confluent's `<topic>-value`, in Glue the topic. */
export const subjectOfTopic = ({ name }: Pick<SchemaPusher, "name">, topic: string): string =>
  name.startsWith("glue:") ? topic : `${topic}-value`;
