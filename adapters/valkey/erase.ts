/** Calls that erase entities from the store: what is held of them goes, and a tombstone refuses what happened before its time. */
import type { Plan } from "../../core/plan.ts";
import { bucketOf, entityKey, type KeyParts, pushedKey } from "./layout.ts";
import { type EncodedArguments, encodeArguments } from "./trip.ts";

export interface EraseCall {
  readonly bucket: number;
  readonly keys: readonly { readonly key: string; readonly groupId: number }[];
  /** Nothing that happened before counts any more, in ms. */
  readonly beforeMs: number;
  /** When the tombstone may go; null for never. */
  readonly keepUntilMs: number | null;
  /** Whether the archive holds nothing of it any more, so that what is built from a later listing may be put. */
  readonly clean: boolean;
}

/** Of pushed values: no group has this id. */
const PUSHED = 0;
const BLOB_BYTES = 18;

/** One call for all that the store may hold of an entity. */
export function eraseCall(
  plan: Plan,
  { tenant, entity, id }: KeyParts,
  terms: Pick<EraseCall, "beforeMs" | "keepUntilMs" | "clean">,
): EraseCall {
  const bucket = bucketOf(tenant, entity, id);
  const groups = plan.groups.filter((group) => group.entity === entity);
  const windows = groups.map(({ stream, id: groupId }) => ({
    key: entityKey(bucket, tenant, entity, stream, id),
    groupId,
  }));
  return { bucket, keys: [...windows, { key: pushedKey(bucket, tenant, entity, id), groupId: PUSHED }], ...terms };
}

/** Number of keys, keys, header and blobs, as `function/09-erase.lua` takes them. @param last a further argument after them */
export function encodeEraseCall(call: EraseCall, control: string, header: Buffer, last?: string): EncodedArguments {
  const blobs = call.keys.map(({ groupId }) => {
    const blob = Buffer.alloc(BLOB_BYTES);
    blob[0] = groupId;
    blob.writeDoubleLE(call.beforeMs, 1);
    blob.writeDoubleLE(call.keepUntilMs ?? -1, 9);
    blob[17] = call.clean ? 1 : 0;
    return blob;
  });
  const args = [call.keys.length + 1, control, ...call.keys.map(({ key }) => key), header, ...blobs];
  return encodeArguments(last === undefined ? args : [...args, last]);
}
