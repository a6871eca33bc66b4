/** Confluent's REST API, as far as reading and registering Avro schemas goes. Other registries answer it too: Apicurio, Karapace, Redpanda. */
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import type { SchemaId } from "../avro/framing.ts";
import { type RegisteredSchema, whole } from "./references.ts";
import type { FoundSchema, SchemaPusher, SchemaRegistry, SchemaToPush } from "./schema-registry.ts";

export interface Credentials {
  readonly username?: string;
  readonly password?: string;
  /** Bearer token, instead of the two. */
  readonly token?: string;
}

export interface ConfluentOptions {
  /** Without a slash at its end. */
  readonly url: string;
  /** Asked for before the first call, and again after one that was refused. @default no authentication */
  readonly credentials?: () => Promise<Credentials>;
  /** Of one call. @default 5 s */
  readonly timeoutMs?: number;
}

/** A schema is at most half of it (foreign-schema.ts), and escaping may double that. */
const MAX_ANSWER_BYTES = 2 * 1024 * 1024;
/** What the registry says when it knows the request and not the thing; a proxy's or a wrong path's 404 has none of these. */
const SCHEMA_UNKNOWN = 40403;
const SUBJECT_UNKNOWN = 40401;
const VERSION_UNKNOWN = 40402;
const NO_RULE = 40408;

interface Answer {
  readonly status: number;
  readonly body: any;
}

export class ConfluentRegistry implements SchemaRegistry, SchemaPusher {
  readonly name: string;
  private readonly options: ConfluentOptions;
  private authorization: Promise<string | null> | null = null;

  constructor(options: ConfluentOptions) {
    this.options = options;
    this.name = options.url;
  }

  async find(id: SchemaId): Promise<FoundSchema | null> {
    const [kind, given] = [id.slice(0, id.indexOf("-")), id.slice(id.indexOf("-") + 1)];
    if (kind !== "confluent") return null;
    const path = /^\d+$/.test(given) ? `/schemas/ids/${given}` : `/schemas/guids/${given}`;
    const { status, body } = await this.call("GET", path);
    if (status === 404 && (body?.error_code === SCHEMA_UNKNOWN || (await this.isItself()))) return null;
    return this.whole(this.registered(path, status, body));
  }

  private whole(found: RegisteredSchema | "unreadable"): Promise<FoundSchema | null> | FoundSchema {
    if (found === "unreadable") return { text: null };
    return whole(found, async (subject, version) => {
      const path = `${subjectPath(subject)}/versions/${version}`;
      const { status, body } = await this.call("GET", path);
      if (status === 404 && [SUBJECT_UNKNOWN, VERSION_UNKNOWN].includes(body?.error_code)) return null;
      return this.registered(path, status, body);
    });
  }

  /** `unreadable` when it is not Avro. */
  private registered(path: string, status: number, body: any): RegisteredSchema | "unreadable" {
    const references = body?.references ?? [];
    const isOne = typeof body?.schema === "string" && Array.isArray(references) && references.every(isReference);
    if (status !== 200 || !isOne) throw this.unexpected("GET", path, status);
    return (body.schemaType ?? "AVRO") === "AVRO" ? { schema: body.schema, references } : "unreadable";
  }

  /**
   * Whether a registry answers at this address: then a bare 404 is its own, as of one that knows no GUIDs, and not that of a proxy
   * or of a wrong path.
   */
  private async isItself(): Promise<boolean> {
    const { status, body } = await this.call("GET", "/config");
    return status === 200 && typeof body?.compatibilityLevel === "string";
  }

  async lookUp({ subject, text }: SchemaToPush): Promise<SchemaId | null> {
    const path = subjectPath(subject);
    const { status, body } = await this.call("POST", path, { schema: text });
    if (status === 200 && Number.isInteger(body?.id)) return `confluent-${body.id}`;
    if (status === 404 && [SCHEMA_UNKNOWN, SUBJECT_UNKNOWN].includes(body?.error_code)) return null;
    throw this.unexpected("POST", path, status);
  }

  async versions(subject: string): Promise<readonly string[]> {
    const path = `${subjectPath(subject)}/versions`;
    const { status, body } = await this.call("GET", path);
    if (status === 404 && body?.error_code === SUBJECT_UNKNOWN) return [];
    if (status !== 200 || !Array.isArray(body)) throw this.unexpected("GET", path, status);
    const texts: string[] = [];
    for (const version of body) {
      const found = await this.call("GET", `${path}/${Number(version)}`);
      const schema = await this.whole(this.registered(path, found.status, found.body));
      if (schema !== null && schema.text !== null) texts.push(schema.text);
    }
    return texts;
  }

  async compatibility(subject: string): Promise<string | null> {
    const path = `/config/${encodeURIComponent(subject)}`;
    const { status, body } = await this.call("GET", path);
    if (status === 404 && [SUBJECT_UNKNOWN, NO_RULE].includes(body?.error_code)) return null;
    if (status !== 200) throw this.unexpected("GET", path, status);
    return body?.compatibilityLevel ?? null;
  }

  readonly ruleOf = (mode: string): string => mode.toUpperCase().replaceAll("-", "_");

  async setCompatibility(subject: string, rule: string): Promise<void> {
    const path = `/config/${encodeURIComponent(subject)}`;
    const { status } = await this.call("PUT", path, { compatibility: rule });
    if (status !== 200) throw this.unexpected("PUT", path, status);
  }

  async register({ subject, text }: SchemaToPush): Promise<SchemaId> {
    const path = `${subjectPath(subject)}/versions`;
    const { status, body } = await this.call("POST", path, { schema: text });
    if (status === 200 && Number.isInteger(body?.id)) return `confluent-${body.id}`;
    if (status !== 409 && status !== 422) throw this.unexpected("POST", path, status);
    const why = String(body?.message ?? "no reason given").slice(0, 500);
    throw new FreshetError("schema_refused", `the registry refuses the schema under ${subject} (${status}): ${why}`, {
      repair: "make the contract compatible with what is registered there, or push to another subject",
    });
  }

  private async call(method: string, path: string, body?: object): Promise<Answer> {
    const answer = await this.once(method, path, body);
    if (answer.status !== 401 && answer.status !== 403) return answer;
    // The secret may have been rotated since it was read.
    this.authorization = null;
    return this.options.credentials === undefined ? answer : this.once(method, path, body);
  }

  private async once(method: string, path: string, body?: object): Promise<Answer> {
    this.authorization ??= this.options.credentials?.().then(authorizationOf) ?? Promise.resolve(null);
    let authorization: string | null;
    try {
      authorization = await this.authorization;
    } catch (cause) {
      this.authorization = null;
      throw this.unavailable("its credentials cannot be read", cause);
    }
    try {
      const response = await fetch(`${this.options.url}${path}`, {
        method,
        redirect: "error",
        signal: AbortSignal.timeout(this.options.timeoutMs ?? 5_000),
        headers: {
          accept: "application/vnd.schemaregistry.v1+json, application/json",
          ...(authorization === null ? {} : { authorization }),
          ...(body === undefined ? {} : { "content-type": "application/vnd.schemaregistry.v1+json" }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      return { status: response.status, body: parsed(await boundedText(response)) };
    } catch (cause) {
      throw this.unavailable(`${method} ${path} was not answered`, cause);
    }
  }

  private unexpected(method: string, path: string, status: number): InfrastructureError {
    return this.unavailable(`${method} ${path} answered ${status}, and not what that call answers`);
  }

  private unavailable(what: string, cause?: unknown): InfrastructureError {
    return new InfrastructureError("schema_registry_unavailable", `schema registry ${this.name}: ${what}`, {
      repair: "restore the registry, its address, or the credentials; records whose schema is known go on",
      cause,
    });
  }
}

const isReference = (given: any): boolean => typeof given?.subject === "string" && Number.isInteger(given?.version);

const subjectPath = (subject: string): string => `/subjects/${encodeURIComponent(subject)}`;

function authorizationOf({ username, password, token }: Credentials): string | null {
  if (token) return `Bearer ${token}`;
  return username ? `Basic ${Buffer.from(`${username}:${password ?? ""}`).toString("base64")}` : null;
}

/** Null for what is no JSON: a proxy's page. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function boundedText(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response.body ?? []) {
    size += part.length;
    if (size > MAX_ANSWER_BYTES) throw new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}
