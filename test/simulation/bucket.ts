/** A bucket of S3 in memory. Each call can fail, be done in part, or be done and nobody hears of it. */
import { NoSuchKey, type S3Client } from "@aws-sdk/client-s3";
import type { Actor, Scheduler } from "./scheduler.ts";

interface Input {
  readonly Key: string;
  readonly Body: Uint8Array;
  readonly Prefix?: string;
  readonly StartAfter?: string;
  readonly Delimiter?: string;
  readonly Delete: { readonly Objects: readonly { readonly Key: string }[] };
}

export class SimulatedBucket {
  readonly objects = new Map<string, Uint8Array>();
  private readonly scheduler: Scheduler;
  private readonly name: string;

  constructor(scheduler: Scheduler, name: string) {
    this.scheduler = scheduler;
    this.name = name;
  }

  /** As an actor's client. */
  of(actor: Actor): { readonly s3: Pick<S3Client, "send">; readonly bucket: string } {
    const send = (command: { readonly input: Input }) => {
      const kind = command.constructor.name.replace("Command", "");
      return this.scheduler.operation(actor, `${this.name} ${kind}`, (share) =>
        this.perform(kind, command.input, share),
      );
    };
    return { s3: { send } as unknown as Pick<S3Client, "send">, bucket: this.name };
  }

  private perform(kind: string, input: Input, share: number): unknown {
    const { objects } = this;
    switch (kind) {
      case "PutObject":
        // One object is there as a whole or not at all.
        if (share > 0.5) objects.set(input.Key, Buffer.from(input.Body));
        return {};
      case "GetObject": {
        const body = objects.get(input.Key);
        if (body === undefined) throw new NoSuchKey({ message: "gone", $metadata: {} });
        return { Body: { transformToByteArray: async () => body } };
      }
      case "DeleteObject":
        if (share > 0.5) objects.delete(input.Key);
        return {};
      case "DeleteObjects": {
        const keys = input.Delete.Objects.map(({ Key }) => Key);
        for (const key of keys.slice(0, Math.floor(share * keys.length))) objects.delete(key);
        return {};
      }
      case "ListObjectVersions":
        return {};
      case "ListObjectsV2":
        return this.list(input);
      default:
        throw new Error(`not simulated: ${kind}`);
    }
  }

  private list({ Prefix = "", StartAfter = "", Delimiter }: Input) {
    const keys = [...this.objects.keys()].filter((key) => key.startsWith(Prefix) && key > StartAfter).sort();
    const folderOf = (key: string): string | null => {
      const at = Delimiter === undefined ? -1 : key.indexOf(Delimiter, Prefix.length);
      return at < 0 ? null : key.slice(0, at + 1);
    };
    const folders = new Set(keys.flatMap((key) => folderOf(key) ?? []));
    return {
      Contents: keys
        .filter((key) => folderOf(key) === null)
        .map((Key) => ({ Key, Size: this.objects.get(Key)!.length })),
      CommonPrefixes: [...folders].map((folder) => ({ Prefix: folder })),
    };
  }
}
