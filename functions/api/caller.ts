/** Who a request says that it comes from, and what it is called. */
import { holdsKey } from "../shared/hidden-keys.ts";
import type { RequestContext } from "./router.ts";

const BEARER = /^Bearer +(\S+)$/i;

/** Clients that know tokens alone, as Feast's, send the key as one. */
export function presentedKey(c: RequestContext): string | undefined {
  // An empty header, as of a variable that is not set, presents nothing.
  return c.req.header("x-api-key") || BEARER.exec(c.req.header("authorization") ?? "")?.[1];
}

/** As API Gateway saw it, else the other end of the connection. What a caller says of itself does not count. */
export function addressOf(c: RequestContext): string {
  const { requestContext, incoming } = c.env ?? {};
  return requestContext?.identity?.sourceIp ?? incoming?.socket?.remoteAddress ?? "";
}

const REQUEST_ID = /^[\w.:-]{1,64}$/;
const prefix = crypto.randomUUID().slice(0, 13);
let counter = 0;

/** The caller's or API Gateway's id where there is one, so that one id follows a request through all logs. */
export function requestIdOf(c: RequestContext): string {
  const given = c.req.header("x-request-id");
  if (given !== undefined && REQUEST_ID.test(given) && !holdsKey(given)) return given;
  const gateway = c.env?.requestContext?.requestId;
  if (typeof gateway === "string") return gateway;
  counter = (counter + 1) % Number.MAX_SAFE_INTEGER;
  return `${prefix}-${counter.toString(36)}`;
}
