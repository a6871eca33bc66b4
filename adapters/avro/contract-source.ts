import { FreshetError } from "../../core/errors.ts";
import type { Contract, ContractField, FieldType } from "../../core/plan.ts";
import { type RecordSchema, withoutDoc } from "./fingerprint.ts";

/** One schema of a contract that was shipped. The last of a contract is the current one. */
export interface ShippedSchema {
  readonly revision: number;
  /** CRC-64-AVRO in hex, see `fingerprintOf`. */
  readonly fingerprint: string;
  readonly schema: RecordSchema;
}

/** What the plan knows of a schema. @throws FreshetError `contract_type` for a type that no feature could read */
export function contractOf(name: string, schema: RecordSchema): Contract {
  return { name, fields: Object.fromEntries(schema.fields.map((f) => [f.name, fieldOf(name, f.name, f.type)])) };
}

const SCALARS: Readonly<Record<string, FieldType>> = {
  string: "string",
  double: "double",
  long: "long",
  int: "long",
  boolean: "boolean",
};

function fieldOf(contract: string, field: string, type: unknown): ContractField {
  const nullable = Array.isArray(type) && type.length === 2 && type.includes("null");
  const name = scalarOf(nullable ? type.find((branch) => branch !== "null") : type);
  if (name !== undefined) return { type: name, nullable };
  throw new FreshetError(
    "contract_type",
    `field ${field} of ${contract} has type ${JSON.stringify(type)}, which no feature can read`,
    {
      field,
      repair: 'use string, double, long, boolean, a map of strings, or a union of "null" and one of them',
    },
  );
}

/** Of `"long"`, of `{ "type": "long", "logicalType": … }`, or of a map of strings. */
function scalarOf(type: unknown): FieldType | undefined {
  if (typeof type === "string") return SCALARS[type];
  if (type === null || typeof type !== "object" || Array.isArray(type)) return undefined;
  const { type: inner, values } = type as { type?: unknown; values?: unknown };
  if (inner === "map") return values === "string" ? "map" : undefined;
  return typeof inner === "string" ? SCALARS[inner] : undefined;
}

const HEADER = "// Generated from schemas/*.avsc by `freshet schemas types`; a test refuses it when it is stale.\n";

/** `schemas/contracts.ts`: the contracts as data, and as types so that a view over a missing field does not compile. */
export function renderContracts(contracts: readonly Contract[]): string {
  const data = contracts.map((c) => `  ${JSON.stringify(c.name)}: ${renderContract(c)},\n`).join("");
  const types = contracts.map((c) => `    ${JSON.stringify(c.name)}: {\n${renderFieldTypes(c)}    };\n`).join("");
  return `${HEADER}import type { Contract } from "../core/plan.ts";

export const contracts: Readonly<Record<string, Contract>> = {
${data}};

declare module "../core/definition.ts" {
  interface Contracts {
${types}  }
}
`;
}

function renderContract({ name, fields }: Contract): string {
  const lines = Object.entries(fields).map(
    ([field, { type, nullable }]) => `      ${field}: { type: "${type}", nullable: ${nullable} },\n`,
  );
  return `{\n    name: ${JSON.stringify(name)},\n    fields: {\n${lines.join("")}    },\n  }`;
}

function renderFieldTypes({ fields }: Contract): string {
  return Object.entries(fields)
    .map(([field, { type, nullable }]) => `      ${field}: "${type}${nullable ? "?" : ""}";\n`)
    .join("");
}

/** `schemas/shipped.ts`: every schema ever shipped, as data, so that a bundle needs no file beside it. */
export function renderShipped(shipped: Readonly<Record<string, readonly ShippedSchema[]>>): string {
  const contracts = Object.entries(shipped).map(([name, versions]) => {
    const lines = versions.map(
      (v) =>
        `    {\n      revision: ${v.revision},\n      fingerprint: "${v.fingerprint}",\n      schema: JSON.parse(\n        '${singleQuoted(JSON.stringify(withoutDoc(v.schema)))}',\n      ),\n    },\n`,
    );
    return `  ${JSON.stringify(name)}: [\n${lines.join("")}  ],\n`;
  });
  return `${HEADER}import type { ShippedSchema } from "../adapters/avro/contract-source.ts";

/** Every schema ever shipped by contract, oldest first; the last is the one that is written. */
export const shipped: Readonly<Record<string, readonly ShippedSchema[]>> = {
${contracts.join("")}};
`;
}

/** What the `doc` members of a contract's current schema say. */
export interface ContractDocumentation {
  readonly about: string;
  readonly fields: Readonly<Record<string, string>>;
}

const LINE_WIDTH = 120;

/** `schemas/documentation.ts`: the docs of the current schemas, for the API's reference. */
export function renderDocumentation(current: Readonly<Record<string, RecordSchema>>): string {
  const contracts = Object.entries(current).map(([name, { doc = "", fields }]) => {
    const lines = fields.map((field) => {
      const text = JSON.stringify(field.doc ?? "");
      const line = `      ${field.name}: ${text},\n`;
      // As the formatter breaks them.
      return line.length - 1 <= LINE_WIDTH ? line : `      ${field.name}:\n        ${text},\n`;
    });
    return `  ${JSON.stringify(name)}: {\n    about: ${JSON.stringify(doc)},\n    fields: {\n${lines.join("")}    },\n  },\n`;
  });
  return `${HEADER}import type { ContractDocumentation } from "../adapters/avro/contract-source.ts";

/** By contract. */
export const documentation: Readonly<Record<string, ContractDocumentation>> = {
${contracts.join("")}};
`;
}

function singleQuoted(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("'", "\\'");
}
