import { readFileSync, writeFileSync } from "node:fs";
import { fingerprintOf, parseSchema, type RecordSchema } from "./fingerprint.ts";

/** One entry of `test/fixtures/golden/events.json`. */
export interface GoldenEvent {
  readonly contract: string;
  readonly revision: number;
  readonly fingerprint: string;
  /** Single-object encoding. */
  readonly hex: string;
  readonly written: Readonly<Record<string, unknown>>;
}

/** A sample event of a schema, encoded with that schema: what the readers of every later version must still decode. */
export function goldenEvent(contract: string, revision: number, schema: RecordSchema): GoldenEvent {
  const fingerprint = fingerprintOf(schema);
  const written = Object.fromEntries(schema.fields.map(({ name, type }, i) => [name, sample(name, type, i)]));
  const header = Buffer.concat([Buffer.from("c301", "hex"), Buffer.from(fingerprint, "hex").reverse()]);
  const hex = Buffer.concat([header, parseSchema(schema).toBuffer(written)]).toString("hex");
  return { contract, revision, fingerprint, hex, written };
}

export function appendGolden(path: string, event: GoldenEvent): void {
  const events: GoldenEvent[] = JSON.parse(readFileSync(path, "utf8"));
  writeFileSync(path, `${JSON.stringify([...events, event], null, 2)}\n`);
}

/** Values that use the whole width of a type: text beyond ASCII, integers beyond 32 bits, doubles beyond one decimal. */
function sample(name: string, type: unknown, position: number): unknown {
  if (Array.isArray(type))
    return sample(
      name,
      type.find((branch) => branch !== "null"),
      position,
    );
  if (typeof type === "object" && type !== null) {
    const { type: inner } = type as { type: unknown };
    return inner === "map" ? { city: "Köln" } : sample(name, inner, position);
  }
  const samples: Readonly<Record<string, unknown>> = {
    string: name === "tenant" ? "default" : `${name} ü`,
    long: 1_767_225_600_000 + position,
    int: 70_000 + position,
    double: position + 0.1,
    boolean: true,
  };
  return samples[String(type)];
}
