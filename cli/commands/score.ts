import type { Command } from "commander";
import { FreshetError } from "../../core/errors.ts";
import type { Plan, Scalar, Service } from "../../core/plan.ts";
import { openFlow } from "../../local/flow.ts";
import { freshetHome } from "../../local/home.ts";
import { serveUrl } from "../../local/parts.ts";
import { callApi } from "../api-call.ts";
import { type Running, requireRunning } from "../running.ts";
import { formatTable } from "../table.ts";

interface Options {
  readonly service?: string;
  readonly explain: boolean;
  readonly gateway?: boolean;
  readonly json?: boolean;
}
type Row = Record<string, Scalar>;
interface ScoreAnswer {
  readonly score: number;
  readonly decision: string;
  readonly model_version: string;
  readonly variant: string;
  readonly features_used: readonly string[];
  readonly features_missing: readonly string[];
  readonly degraded: boolean;
  readonly degraded_reason: string | null;
  readonly explanation?: {
    readonly base: number;
    readonly method: string;
    readonly reasons: readonly { name: string; text: string; contribution: number }[];
  };
  readonly latency_ms: number;
}

/** Entities looked at to find one of each type that has events. */
const SAMPLES = 200;
const MISSING_SHOWN = 4;
/** What a sampled request says where only the caller would know. */
const SAMPLE_FIELDS = { double: 100, long: 1, string: "SE", boolean: true } as const;

export function register(program: Command): void {
  program
    .command("score")
    .description(
      "Score one request, as an application would over HTTP. Without fields: entities that have live events.",
    )
    .argument(
      "[fields...]",
      "join keys and request fields as name=value: card_id=c1 amount=12.5 country=SE device_id=null",
    )
    .option("--service <name>", "feature service (default: the first one)")
    .option("--no-explain", "leave out which rules fired")
    .option("--gateway", "through API Gateway instead of the plain server")
    .option("--json", "print request and answer as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  freshet score\n  freshet score card_id=c1 merchant_id=m1 amount=12.5 country=SE\n  freshet score --json --no-explain",
    )
    .action(async (fields: string[], options: Options) => {
      const running = requireRunning(freshetHome());
      const { plan } = await import("../../features/plan.ts");
      const service = serviceOf(plan, options.service);
      const body = fields.length > 0 ? parseFields(plan, service, fields) : await sampleRequest(plan, service, running);
      const url = options.gateway ? running.deployment.apiUrl : serveUrl(running.ports.serve);
      const startedAt = performance.now();
      const path = `${url}/v1/score/${service.name}`;
      const answer: ScoreAnswer = await callApi(path, running.apiKey, { ...body, explain: options.explain });
      const roundTripMs = performance.now() - startedAt;
      process.stdout.write(
        options.json
          ? `${JSON.stringify({ request: body, answer, round_trip_ms: roundTripMs }, null, 2)}\n`
          : `${formatScore(body, answer, roundTripMs)}\n`,
      );
    });
}

function serviceOf(plan: Plan, name: string | undefined): Service {
  const service = name === undefined ? plan.services[0] : plan.services.find((one) => one.name === name);
  if (service !== undefined) return service;
  throw new FreshetError("service_unknown", `no feature service is named ${name}`, {
    repair: `use one of ${plan.services.map((one) => one.name).join(", ")}`,
  });
}

/** `amount=12.5` by the type that the service declares; join keys are strings whatever they look like. */
export function parseFields(
  plan: Pick<Plan, "entities" | "streams">,
  service: Service,
  fields: readonly string[],
): Row {
  const row: Row = {};
  const keys = plan.entities.filter(({ name }) => service.entities.includes(name)).map(({ joinKey }) => joinKey);
  const takes = [...keys, ...Object.keys(service.request)];
  // Outcomes are joined by the event's id; the API passes over what else it is sent.
  const known = new Set([...takes, ...plan.streams.map(({ eventId }) => eventId), "variant"]);
  for (const field of fields) {
    const at = field.indexOf("=");
    if (at < 1) {
      throw new FreshetError("field_invalid", `a field is written name=value, given ${field}`, {
        repair: "write card_id=c1 amount=12.5",
      });
    }
    const name = field.slice(0, at);
    if (!known.has(name)) {
      throw new FreshetError("field_invalid", `service ${service.name} takes no field ${name}`, {
        repair: `give some of ${takes.join(", ")}`,
      });
    }
    row[name] = parseValue(service.request[name] ?? "string", field.slice(at + 1), field);
  }
  return row;
}

function parseValue(type: Service["request"][string], text: string, field: string): Scalar {
  if (text === "null") return null;
  if (type === "string") return text;
  if (type === "boolean" && (text === "true" || text === "false")) return text === "true";
  const value = Number(text);
  if (type !== "boolean" && text.trim() !== "" && Number.isFinite(value)) return value;
  throw new FreshetError("field_invalid", `${field}: a ${type} is expected`, {
    repair: type === "boolean" ? "write true or false" : "write a number, as 12.5",
  });
}

async function sampleRequest(plan: Plan, service: Service, running: Running): Promise<Row> {
  const flow = openFlow(running.ports, running.deployment);
  try {
    const samples = await flow.sample("default", SAMPLES);
    if (samples.length === 0) {
      throw new FreshetError("no_events", "no entity has events yet, so there is nothing to sample", {
        repair:
          "run `freshet generate` first, or name the fields: freshet score card_id=c1 merchant_id=m1 amount=12.5 country=SE",
      });
    }
    const row: Row = {};
    for (const name of service.entities) {
      const { joinKey } = plan.entities.find((entity) => entity.name === name)!;
      row[joinKey] = samples.find(({ entity }) => entity === name)?.id ?? null;
    }
    for (const [name, type] of Object.entries(service.request)) row[name] = SAMPLE_FIELDS[type];
    return row;
  } finally {
    flow.close();
  }
}

export function formatScore(request: Row, answer: ScoreAnswer, roundTripMs: number): string {
  const fields = Object.entries(request).map(([name, value]) => `${name}=${value}`);
  const { features_missing: names } = answer;
  const more = names.length > MISSING_SHOWN ? ` and ${names.length - MISSING_SHOWN} more` : "";
  const missing = names.length === 0 ? "" : `: ${names.slice(0, MISSING_SHOWN).join(", ")}${more}`;
  const rows = [
    ["request", fields.join(" ")],
    ["score", `${answer.score.toFixed(4)} (${answer.decision})`],
    ["model", `${answer.model_version}, ${answer.variant}`],
    ["features", `${answer.features_used.length} used, ${answer.features_missing.length} missing${missing}`],
    ["degraded", answer.degraded ? `yes: ${answer.degraded_reason}` : "no"],
    ["latency", `${answer.latency_ms.toFixed(2)} ms in the server, ${roundTripMs.toFixed(2)} ms round trip`],
  ];
  const { explanation } = answer;
  if (explanation !== undefined) {
    const { method, base, reasons } = explanation;
    rows.push(["base", method === "rules" ? base.toFixed(4) : `${base.toFixed(4)}, in log-odds (${method})`]);
    for (const { name, text, contribution } of reasons)
      rows.push([`+${contribution.toFixed(4)}`, reasonLine(name, text)]);
    if (reasons.length === 0) rows.push(["", method === "rules" ? "no rule fired" : "nothing raised it"]);
  }
  return formatTable(rows);
}

/** A rule's reason says nothing of its name, a feature's words nearly all. */
const reasonLine = (name: string, text: string): string => (name.includes(":") ? text : `${name}: ${text}`);
