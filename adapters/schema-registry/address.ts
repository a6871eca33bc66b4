/** Which registry is meant: `https://…`, an address of Confluent's API, or `glue:<registry>`. */
import { FreshetError } from "../../core/errors.ts";

export type RegistryAddress = { readonly glue: string } | { readonly url: string };

/** @throws FreshetError `schema_registry_invalid` */
export function registryAddress(given: string): RegistryAddress {
  if (given.startsWith("glue:")) {
    const glue = given.slice("glue:".length);
    // As Glue names registries.
    if (/^[a-zA-Z0-9_$#.-]{1,255}$/.test(glue)) return { glue };
    throw invalid("after glue: comes the name of a Glue registry", "pass glue:<name>, as glue:freshet");
  }
  const url = URL.parse(given);
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:")) {
    throw invalid("a schema registry is an http address, or glue:<name>", "pass https://host/path, or glue:<name>");
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw invalid(
      "a schema registry's address has no credentials and no query: addresses are written into logs",
      "put the credentials into the secret, or into FRESHET_SCHEMA_REGISTRY_CREDENTIALS",
    );
  }
  if (url.protocol === "http:" && !LOOPBACK.has(url.hostname)) {
    throw invalid(`${url.origin} is neither https nor this machine: schemas decide what events mean`, "use https");
  }
  return { url: `${url.origin}${url.pathname.replace(/\/+$/, "")}` };
}

const LOOPBACK: ReadonlySet<string> = new Set(["127.0.0.1", "localhost", "[::1]"]);

function invalid(message: string, repair: string): FreshetError {
  return new FreshetError("schema_registry_invalid", message, { field: "schemaRegistry", repair });
}
