/** Artefacts in S3 and in folders. An artefact's objects are written once, under a version that nobody else has. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { GetObjectCommand, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import type { ArtefactFiles } from "./open.ts";

/** @throws FreshetError `artefact_incomplete` for a folder that cannot be read */
export function readArtefactFolder(folder: string): ArtefactFiles {
  try {
    const names = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
    return Object.fromEntries(names.map(({ name }) => [name, readFileSync(join(folder, name))]));
  } catch (cause) {
    throw new FreshetError("artefact_incomplete", `there is no artefact in ${folder}`, {
      field: "folder",
      repair: "give the folder that freshet train has written",
      cause,
    });
  }
}

export interface ArtefactStore {
  /** @throws InfrastructureError `artefacts_unavailable` */
  put(prefix: string, files: ArtefactFiles): Promise<void>;
  /** @throws InfrastructureError `artefacts_unavailable`, FreshetError `artefact_incomplete` */
  get(prefix: string, names: readonly string[]): Promise<ArtefactFiles>;
}

export function createArtefactStore(options: { bucket: string; s3: Pick<S3Client, "send"> }): ArtefactStore {
  const { bucket, s3 } = options;
  const unavailable = (what: string, cause: unknown) =>
    new InfrastructureError("artefacts_unavailable", `${what} model artefacts in bucket ${bucket} failed`, {
      repair: "look at the bucket and at the permission on it",
      cause,
    });
  return {
    async put(prefix, files) {
      // The manifest last: a folder with a manifest is whole.
      const names = Object.keys(files).sort((a, b) => Number(a === "manifest.json") - Number(b === "manifest.json"));
      for (const name of names) {
        try {
          await s3.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${name}`, Body: files[name] }));
        } catch (cause) {
          throw unavailable("writing", cause);
        }
      }
    },
    async get(prefix, names) {
      const get = async (name: string) => {
        try {
          const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: `${prefix}/${name}` }));
          return [name, await Body!.transformToByteArray()] as const;
        } catch (cause) {
          if ((cause as Error).name !== "NoSuchKey") throw unavailable("reading", cause);
          throw new FreshetError("artefact_incomplete", `the artefact has no ${name}`, {
            field: name,
            repair: "register the model again; objects of an artefact must not be removed",
            cause,
          });
        }
      };
      return Object.fromEntries(await Promise.all(names.map(get)));
    },
  };
}
