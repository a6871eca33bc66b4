/** The process that produces: takes orders over its channel, answers each with its result. */
import { produce } from "./producer.ts";

process.on("disconnect", () => process.exit());
process.on("message", (order: Parameters<typeof produce>[0]) => {
  produce(order).then(
    (result) => process.send!({ result }),
    (error: unknown) => process.send!({ failed: String(error) }),
  );
});
