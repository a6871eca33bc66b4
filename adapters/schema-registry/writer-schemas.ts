/**
 * The schemas that records name, kept for ever: an id never means another one. In memory, and in S3, so that a process that
 * starts while the registry is away goes on with what any process before it has met. A schema that the registry does not have is
 * asked for again after a while: it may be registered late, or not have reached every node of the registry.
 */
import { InfrastructureError } from "../../core/errors.ts";
import type { SchemaId } from "../avro/framing.ts";
import { forEachLimited } from "../aws/durable-call.ts";
import type { FoundSchema, SchemaRegistry } from "./schema-registry.ts";
import type { StoredSchemas } from "./stored-schemas.ts";

/** Every process asks by itself, so a flood of made-up ids costs the registry as much. */
const CONCURRENT = 8;
const ABSENT_FOR_MS = 30_000;
/** Beyond these all are forgotten, and asked for again: made-up ids, and schemas of other streams, must not fill the memory. */
const MAX_ABSENT = 10_000;
const MAX_FOUND = 1_000;

export class WriterSchemas {
  private readonly registry: SchemaRegistry;
  private readonly stored: Pick<StoredSchemas, "get" | "put">;
  private readonly clock: () => number;
  private readonly found = new Map<SchemaId, FoundSchema>();
  private readonly absentUntil = new Map<SchemaId, number>();
  /** Two batches at once ask once. */
  private readonly asked = new Map<SchemaId, Promise<void>>();

  constructor(options: {
    readonly registry: SchemaRegistry;
    readonly stored: Pick<StoredSchemas, "get" | "put">;
    readonly clock?: () => number;
  }) {
    this.registry = options.registry;
    this.stored = options.stored;
    this.clock = options.clock ?? Date.now;
  }

  /**
   * After this, `get` knows each of these ids.
   * @throws InfrastructureError `schema_registry_unavailable`, `schemas_unavailable`: none of the ids is known to be absent by that
   */
  async learn(ids: Iterable<SchemaId>): Promise<void> {
    if (this.absentUntil.size > MAX_ABSENT) this.absentUntil.clear();
    if (this.found.size > MAX_FOUND) this.found.clear();
    const nowMs = this.clock();
    const unknown = [...new Set(ids)].filter((id) => !this.found.has(id) && !((this.absentUntil.get(id) ?? 0) > nowMs));
    await forEachLimited(unknown, CONCURRENT, (id) => {
      const asked = this.asked.get(id) ?? this.ask(id).finally(() => this.asked.delete(id));
      this.asked.set(id, asked);
      return asked;
    });
  }

  /**
   * Null for a schema that the registry does not have.
   * @throws InfrastructureError for an id that nobody has learnt
   */
  get(id: SchemaId): FoundSchema | null {
    const known = this.found.get(id);
    if (known !== undefined) return known;
    if (this.absentUntil.has(id)) return null;
    throw new InfrastructureError("schema_registry_unavailable", `schema ${id} has not been asked for`);
  }

  private async ask(id: SchemaId): Promise<void> {
    const stored = await this.stored.get(id);
    const found = stored ?? (await this.registry.find(id));
    if (found === null) {
      this.absentUntil.set(id, this.clock() + ABSENT_FOR_MS);
      return;
    }
    if (stored === null) await this.stored.put(id, found);
    this.absentUntil.delete(id);
    this.found.set(id, found);
  }
}
