/** Generated events in the framing of a schema registry, as producers of other systems write them. */
import { reframe, type SchemaId } from "../../adapters/avro/framing.ts";
import { SchemaFolder } from "../../adapters/avro/schema-folder.ts";
import { type SchemaPusher, subjectOfTopic } from "../../adapters/schema-registry/schema-registry.ts";
import { FreshetError } from "../../core/errors.ts";
import type { StreamName } from "./simulate.ts";
import type { Sink } from "./sinks.ts";

/**
 * A sink of events under the ids that `freshet schemas push` has given their contracts. What is broken on purpose stays as it is.
 * @param topics by stream
 * @throws FreshetError from `send`: `schema_not_pushed`, and what the registry's client throws
 */
export function framedSink(
  sink: Sink,
  registry: Pick<SchemaPusher, "lookUp" | "name">,
  topics: Readonly<Record<string, string>>,
): Sink {
  const ids = new Map<StreamName, Promise<SchemaId>>();
  const idOf = (stream: StreamName): Promise<SchemaId> => {
    const id = ids.get(stream) ?? lookUp(registry, stream, topics[stream]);
    ids.set(stream, id);
    return id;
  };
  return {
    async send(batch) {
      const framed = batch.map(async (out) =>
        out.kind === "malformed" ? out : { ...out, bytes: reframe(out.bytes, await idOf(out.event.stream)) },
      );
      return sink.send(await Promise.all(framed));
    },
    close: () => sink.close(),
  };
}

async function lookUp(
  registry: Pick<SchemaPusher, "lookUp" | "name">,
  stream: StreamName,
  topic: string,
): Promise<SchemaId> {
  const folder = new SchemaFolder();
  const contract = `${stream}.v1`;
  const newest = folder.history(contract, folder.historyRevisions(contract).at(-1)!);
  const subject = subjectOfTopic(registry, topic);
  const id = await registry.lookUp({ subject, text: JSON.stringify(newest) });
  if (id !== null) return id;
  throw new FreshetError("schema_not_pushed", `${registry.name} has no schema of ${contract} under ${subject}`, {
    repair: "run `freshet schemas push` for this registry and stage",
  });
}
