import type { Command } from "commander";
import { FreshetError } from "../../core/errors.ts";
import { type ApiOptions, callApi, openApi, urlOption } from "../api-call.ts";
import { stageOption } from "../deployment.ts";
import { addExamples } from "../examples.ts";
import { formatTable } from "../table.ts";

interface Entry {
  readonly name: string;
  readonly kind: string;
  readonly entity: string;
  readonly dtype: string;
  readonly description: string;
  readonly unit: string;
  readonly owner: string;
  readonly deprecated: { readonly date: string } | null;
}
interface ListOptions extends ApiOptions {
  readonly entity?: string;
  readonly kind?: string;
  readonly json?: boolean;
}
interface RegisterOptions extends ApiOptions {
  readonly entity: string;
  readonly dtype: string;
  readonly ttl?: string;
  readonly featureVersion?: string;
  readonly description?: string;
  readonly unit?: string;
  readonly owner?: string;
  readonly current?: boolean;
  readonly replace?: boolean;
  readonly json?: boolean;
}

export function register(program: Command): void {
  const features = program
    .command("features")
    .description("What can be read: features of the definitions, and those that are registered and pushed.");
  features
    .command("list")
    .description("features whose name, description, owner or tags hold all of the words")
    .argument("[words...]")
    .option("--entity <name>", "of this entity alone")
    .option("--kind <kind>", "windowed, batch or pushed")
    .addOption(stageOption())
    .addOption(urlOption())
    .option("--json", "print as JSON")
    .action(async (words: string[], { entity, kind, json, ...where }: ListOptions) => {
      const found: Entry[] = [];
      for (let cursor: string | null = ""; cursor !== null; ) {
        const given: Record<string, string | undefined> = { q: words.join(" "), entity, kind, cursor, limit: "500" };
        const query = Object.entries(given).filter((each): each is [string, string] => (each[1] ?? "") !== "");
        const page = await call(where, `/v1/features?${new URLSearchParams(query)}`);
        found.push(...page.features);
        cursor = page.next;
      }
      const line = ({ name, kind: how, entity: of, dtype, description, unit, deprecated }: Entry) => [
        ...[name, of, how, dtype + (unit === "" ? "" : ` (${unit})`)],
        (deprecated === null ? "" : `[until ${deprecated.date}] `) + description,
      ];
      const table = () => formatTable([["feature", "entity", "kind", "type", "what"], ...found.map(line)]);
      process.stdout.write(`${json ? JSON.stringify(found, null, 2) : table()}\n`);
    });
  features
    .command("show")
    .description("how a feature comes about, who uses it, and what was served of it")
    .argument("<name>")
    .addOption(stageOption())
    .addOption(urlOption())
    .action(async (name: string, options: ApiOptions) => {
      const { request_id: _, ...feature } = await call(options, `/v1/features/${encodeURIComponent(name)}`);
      process.stdout.write(`${JSON.stringify(feature, null, 2)}\n`);
    });
  features
    .command("register")
    .description("register a feature whose values are pushed; again with the same changes nothing")
    .argument("<name>", "view:feature")
    .requiredOption("--entity <name>", "whose feature it is")
    .requiredOption("--dtype <type>", "int64, double, string or boolean")
    .option("--ttl <duration>", "how long a value is served (default: 1h)")
    .option("--feature-version <number>", "another one for another type or entity (default: 1)")
    .option("--description <text>", "what it is")
    .option("--unit <text>", "of its values, as EUR")
    .option("--owner <text>", "whom to ask")
    .option("--current", "the name alone means this version from now on")
    .option("--replace", "replace ttl (by a shorter one), description, unit and owner of what is registered")
    .addOption(stageOption())
    .addOption(urlOption())
    .option("--json", "print as JSON")
    .action(async (name: string, { featureVersion, json, stage, url, ...options }: RegisterOptions) => {
      const answer = await call({ stage, url }, "/v1/features/register", { name, version: featureVersion, ...options });
      const text = json ? JSON.stringify(answer, null, 2) : `${answer.versioned_name} ${answer.outcome}`;
      process.stdout.write(`${text}\n`);
    });
  features
    .command("push")
    .description("push values of one entity, true now")
    .argument("<id>", "of the entity")
    .argument(
      "<values...>",
      "name=value, the value as JSON or as text: profile:age=412 profile:city=Oslo profile:vip=null",
    )
    .addOption(stageOption())
    .addOption(urlOption())
    .option("--json", "print as JSON")
    .action(async (id: string, given: string[], { json, ...where }: ApiOptions & { json?: boolean }) => {
      const values = Object.fromEntries(given.map(parseValue));
      const answer = await call(where, "/v1/features/push", { rows: [{ id, event_time_ms: Date.now(), values }] });
      process.stdout.write(`${json ? JSON.stringify(answer, null, 2) : `${given.length} pushed`}\n`);
    });
  addExamples(features, [
    "freshet features list amount",
    "freshet features show card_activity:tx_count_1h",
    "freshet features register profile:age --entity card --dtype double --ttl 30d",
    "freshet features push c1 profile:age=412",
    "FRESHET_API_KEY=fk_… freshet features list --stage prod",
  ]);
}

function parseValue(field: string): [name: string, value: unknown] {
  const at = field.indexOf("=");
  if (at < 1) {
    throw new FreshetError("field_invalid", `a value is written name=value, given ${field}`, {
      repair: "write profile:age=412",
    });
  }
  const text = field.slice(at + 1);
  try {
    return [field.slice(0, at), JSON.parse(text)];
  } catch {
    return [field.slice(0, at), text];
  }
}

/** @throws FreshetError those of `openApi` and `callApi` */
async function call(where: ApiOptions, path: string, body?: unknown): Promise<any> {
  const { url, key } = await openApi(where);
  return callApi(url + path, key, body);
}
