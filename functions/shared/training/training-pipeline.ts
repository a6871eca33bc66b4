/**
 * The steps of the training state machine that are ours: what comes before the job and what follows it. Each takes what the
 * steps before it have found and changes nothing but what it is named for, so an execution that fails has changed nothing.
 */
import { hash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { GetObjectCommand, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import type { ModelId, ModelRegistry, ModelVersion } from "../../../adapters/model/model-registry.ts";
import { type ArtefactFiles, openModel } from "../../../adapters/model/open.ts";
import { promote } from "../../../adapters/model/promotion.ts";
import { registerModel } from "../../../adapters/model/register.ts";
import { servableCheck } from "../../../adapters/model/servable.ts";
import { readTarGz } from "../../../adapters/model/tar.ts";
import { parseS3Uri } from "../../../adapters/s3/uri.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import { checkTenant } from "../../../core/event.ts";
import type { Plan } from "../../../core/plan.ts";
import { type GateDefinition, judge, type Verdict } from "../../../core/scoring/gate.ts";

export interface TrainingPorts {
  readonly plan: Plan;
  /** What a service holds a new champion to. */
  readonly gateOf: (service: string) => GateDefinition;
  readonly registry: ModelRegistry;
  readonly s3: Pick<S3Client, "send">;
}

/** What an execution is started with. */
export interface TrainingInput {
  readonly service: string;
  /** `s3://…/` of what `freshet training-set` has written. */
  readonly training_set: string;
  /** @default "default" */
  readonly tenant?: string;
  /** Numbers and booleans become strings, which is all that SageMaker takes. */
  readonly hyperparameters?: Readonly<Record<string, string | number | boolean>>;
  /** Whether a model that the gate lets pass becomes champion. @default true */
  readonly promote?: boolean;
}

export interface Prepared {
  readonly tenant: string;
  readonly service: string;
  readonly training_set: string;
  /** `s3://…/`: files of the model that stands, for the job's channel of that name; an object that says so when none does. */
  readonly champion: string;
  readonly job_name: string;
  readonly hyperparameters: Readonly<Record<string, string>>;
  readonly promote: boolean;
  /** For the registry's `by`. */
  readonly execution: string;
  /** The service's name as resources on AWS carry it. */
  readonly group: string;
}

export interface Trained extends Prepared {
  readonly job: { readonly model: string };
}

/**
 * Looks at the training set before an instance is paid for, and lays the champion beside it to be scored on the same rows.
 * @throws FreshetError `tenant_invalid`, `service_unknown`, `training_set_missing`, `training_set_mismatch`, `s3_uri`
 */
export async function prepare(ports: TrainingPorts, input: TrainingInput, execution: string): Promise<Prepared> {
  const { plan } = ports;
  const { tenant = "default" } = input;
  checkTenant(tenant);
  if (!plan.services.some(({ name }) => name === input.service)) {
    throw new FreshetError("service_unknown", `there is no feature service ${input.service}`, {
      repair: `use one of ${plan.services.map(({ name }) => name).join(", ")}`,
    });
  }
  const uri = `${(input.training_set ?? "").replace(/\/$/, "")}/`;
  const manifest = JSON.parse(Buffer.from(await read(ports, `${uri}manifest.json`)).toString("utf8"));
  for (const [name, wanted] of [
    ["service", input.service],
    ["plan_hash", plan.hash],
    ["tenant", tenant],
  ] as const) {
    // A set that was not made from an archive names no tenant.
    if (manifest[name] === wanted || (name === "tenant" && manifest[name] === undefined)) continue;
    throw new FreshetError("training_set_mismatch", `the training set is of ${name} ${manifest[name]}, not ${wanted}`, {
      repair:
        name === "tenant"
          ? "give the tenant that it is of, or a set of this tenant"
          : "build the training set again from the definitions that are deployed",
    });
  }
  const given = Object.entries(input.hyperparameters ?? {}).map(([name, value]) => [name, String(value)]);
  const jobName = `${input.service}-${execution}`
    .replace(/[^a-zA-Z0-9]+/g, "-")
    .slice(0, 63)
    .replace(/-+$/, "");
  return {
    tenant,
    service: input.service,
    training_set: uri,
    champion: await layChampion(ports, { tenant, service: input.service }, parseS3Uri(uri).bucket, jobName),
    job_name: jobName,
    hyperparameters: { ...Object.fromEntries(given), service: input.service, plan_hash: plan.hash, tenant },
    promote: input.promote ?? true,
    execution,
    group: input.service.replaceAll("_", "-"),
  };
}

/** A channel without an object is an error to SageMaker, so there is always one. */
async function layChampion({ registry, s3 }: TrainingPorts, id: ModelId, Bucket: string, job: string): Promise<string> {
  const { champion } = await registry.aliases(id);
  const files = champion === null ? null : await filesOf(registry, await registry.get(id, champion));
  const { "manifest.json": manifest, "trees.json": trees } = files ?? {};
  const laid = files === null ? { "none.json": "{}" } : { "trees.json": trees, "manifest.json": manifest };
  const folder = `training-sets/champions/${job}/`;
  for (const [name, Body] of Object.entries(laid)) {
    await s3.send(new PutObjectCommand({ Bucket, Key: `${folder}${name}`, Body }));
  }
  return `s3://${Bucket}/${folder}`;
}

/** What is broken about the champion keeps no other model from being trained. */
async function filesOf(registry: ModelRegistry, version: ModelVersion): Promise<ArtefactFiles | null> {
  try {
    return await registry.files(version);
  } catch (error) {
    if (!(error instanceof FreshetError) || error instanceof InfrastructureError) throw error;
    return null;
  }
}

/**
 * Opens the model as serving would, and judges it against the champion.
 * @throws what `openModel` throws of an artefact that serving would refuse
 */
export async function gate(ports: TrainingPorts, { tenant, service, job }: Trained): Promise<Verdict> {
  const model = await openModel(await readTarGz(await read(ports, job.model)));
  await model.close();
  const id = { tenant, service };
  const { champion } = await ports.registry.aliases(id);
  const standing = champion === null ? null : await ports.registry.get(id, champion);
  return judge(model.manifest, standing, ports.gateOf(service));
}

/**
 * Finds what an earlier attempt has registered: a step whose answer was lost is taken again.
 * @throws what `registerModel` throws; the registry is then as it was
 */
export async function register(
  ports: TrainingPorts,
  { tenant, service, job, execution }: Trained,
  nowMs: number,
): Promise<{ version: number }> {
  const files = await readTarGz(await read(ports, job.model));
  // Names of executions come back after months, so the artefact is compared too.
  const known = (await ports.registry.list({ tenant, service })).find(
    (one) => one.by === by(execution) && one.manifestSha256 === hash("sha256", files["manifest.json"] ?? "", "hex"),
  );
  if (known !== undefined) return { version: known.version };
  const folder = mkdtempSync(join(tmpdir(), "freshet-model-"));
  try {
    // By their last name: an artefact has no folders, and no entry may write outside of this one.
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(folder, basename(name)), bytes);
    const { version } = await registerModel(ports.registry, folder, {
      tenant,
      service,
      plan: ports.plan,
      nowMs,
      by: by(execution),
    });
    return { version };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Once for an execution: after a lost answer it finds its own change, and leaves alone what others have made of it since.
 * @throws FreshetError `gate_refused` when another champion has come meanwhile, `alias_conflict`
 */
export async function makeChampion(
  ports: TrainingPorts,
  { tenant, service, execution }: Trained,
  version: number,
  nowMs: number,
): Promise<{ champion: number; revision: number }> {
  const id = { tenant, service };
  const done = (await ports.registry.history(id)).find(
    (one) => one.by === by(execution) && one.alias === "champion" && one.to === version,
  );
  if (done !== undefined) return { champion: version, revision: done.revision };
  const { aliases } = await promote(ports.registry, id, {
    version,
    alias: "champion",
    gate: ports.gateOf(service),
    check: servableCheck(ports.registry, ports.plan),
    nowMs,
    by: by(execution),
  });
  return { champion: version, revision: aliases.revision };
}

const by = (execution: string): string => `training ${execution}`;

async function read({ s3 }: TrainingPorts, uri: string): Promise<Uint8Array> {
  const { bucket, key } = parseS3Uri(uri);
  try {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
    return await Body!.transformToByteArray();
  } catch (cause) {
    if ((cause as Error).name !== "NoSuchKey" && (cause as Error).name !== "NoSuchBucket") throw cause;
    throw new FreshetError("training_set_missing", `there is no object ${uri}`, {
      repair: "give the folder that freshet training-set has written",
      cause,
    });
  }
}
