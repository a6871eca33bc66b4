/** Events of one contract in any framing: our own, and those that name a schema of a registry. */
import { RecordError } from "../../core/errors.ts";
import { type DecodedEvent, type EventCodec, type EventReader, readBody } from "../avro/event-codec.ts";
import { type ForeignReader, foreignReader } from "../avro/foreign-schema.ts";
import { bodyOf, framingOf, type SchemaId } from "../avro/framing.ts";
import type { WriterSchemas } from "./writer-schemas.ts";

export class FramedCodec implements EventReader {
  private readonly codec: EventCodec;
  private readonly schemas: Pick<WriterSchemas, "learn" | "get">;
  /** What a schema has turned out to be, right or wrong, is so for ever. */
  private readonly readers = new Map<SchemaId, ForeignReader | RecordError>();

  constructor(codec: EventCodec, schemas: Pick<WriterSchemas, "learn" | "get">) {
    this.codec = codec;
    this.schemas = schemas;
  }

  async learn(records: readonly Uint8Array[]): Promise<void> {
    const ids = new Set<SchemaId>();
    for (const record of records) {
      const framed = framingOf(record);
      if (framed !== null && !this.readers.has(framed.id)) ids.add(framed.id);
    }
    if (ids.size > 0) await this.schemas.learn(ids);
  }

  /**
   * @throws RecordError those of `EventCodec`, `bodyOf` and `foreignReader`, and `schema_id_unknown`
   * @throws InfrastructureError for a record that was not learnt
   */
  decode(record: Uint8Array): DecodedEvent {
    const framed = framingOf(record);
    if (framed === null) return this.codec.decode(record);
    const { reader, tap, fingerprint } = this.readerOf(framed.id);
    return { fields: readBody(reader, tap, bodyOf(record, framed), 0), fingerprint };
  }

  private readerOf(id: SchemaId): ForeignReader {
    const known = this.readers.get(id) ?? this.makeReader(id);
    if (known instanceof RecordError) throw known;
    return known;
  }

  private makeReader(id: SchemaId): ForeignReader | RecordError {
    const found = this.schemas.get(id);
    if (found === null) {
      // Not kept: it may be registered yet.
      throw new RecordError(
        "schema_id_unknown",
        `the schema registry has no schema ${id}, or not all that it refers to`,
        {
          repair:
            "register the schema, or point Freshet at the registry that the producer uses; then replay the record",
        },
      );
    }
    const made = outcomeOf(() => {
      if (found.text !== null) return foreignReader(this.codec, id, found.text);
      throw new RecordError("schema_unreadable", `schema ${id} is not Avro, or of schemas that do not fit together`, {
        repair: "write Avro; what a schema refers to may not go in a circle, and is 64 schemas and 512 KiB at most",
      });
    });
    this.readers.set(id, made);
    return made;
  }
}

function outcomeOf(make: () => ForeignReader): ForeignReader | RecordError {
  try {
    return make();
  } catch (error) {
    if (error instanceof RecordError) return error;
    throw error;
  }
}
