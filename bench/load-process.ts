/** The process that makes load: takes orders over its channel, answers each with its result. */
import { type LoadOrder, load } from "./load.ts";

process.on("disconnect", () => process.exit());
process.on("message", (order: LoadOrder & { requests: Uint8Array[] }) => {
  const requests = order.requests.map((bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  load({ ...order, requests }).then(
    (result) => process.send!({ result }),
    (error: unknown) => process.send!({ failed: String(error) }),
  );
});
