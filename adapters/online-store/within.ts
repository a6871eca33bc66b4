/** An end to waiting for what has none of its own. */
import { InfrastructureError } from "../../core/errors.ts";
import { STORE_STATES } from "./store-states.ts";

/** @throws InfrastructureError `store_unavailable` when there is no outcome within `ms`; what comes later is dropped */
export function within<T>(ms: number, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      // A process that stood still for so long has not heard its sockets yet: the answer may be waiting there.
      setImmediate(() =>
        setImmediate(() => reject(new InfrastructureError(STORE_STATES.unreachable.code, `no answer within ${ms} ms`))),
      );
    }, ms);
    work.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}
