/** The compose file cannot be run where there is no Docker; what would hurt if it were wrong is asserted on its text. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { localTarget } from "../../lib/targets/local.ts";
import { LOCALSTACK_SERVICES } from "../../local/localstack/process.ts";
import { synthesize } from "./synthesized.ts";

const compose = readFileSync(new URL("../../docker-compose.localstack.yml", import.meta.url), "utf8");
const all = (pattern: RegExp) => [...compose.matchAll(pattern)].map(([, found]) => found);

test("every image is pinned to a version", () => {
  expect(all(/^\s+image: (\S+)$/gm)).toEqual(["localstack/localstack:4.14.0", "valkey/valkey:9.1.2-alpine"]);
});

test("every port is published on loopback only", () => {
  expect(all(/^\s+ports: \[(.*)\]$/gm)).toEqual(['"127.0.0.1:4566:4566"', '"127.0.0.1:6379:6379"']);
});

test("every service has a health check", () => {
  expect(all(/^\s+(healthcheck):$/gm)).toHaveLength(all(/^\s+(image):/gm).length);
});

test("Valkey is set as the store on AWS is", () => {
  for (const setting of [
    "maxmemory-policy noeviction",
    "hash-max-listpack-value 1100",
    "hash-max-listpack-entries 512",
  ]) {
    expect(compose).toContain(`--${setting}`);
  }
});

test("LocalStack starts what the templates are made of, as the process without Docker does", () => {
  expect(all(/^\s+SERVICES: (\S+)$/gm)).toEqual([LOCALSTACK_SERVICES.join(",")]);
  const given = { valkey: { host: "valkey", port: "6379" }, sagemakerEndpoint: "http://host.docker.internal:4570" };
  const app = synthesize(localTarget({ emulator: "localstack", ...given }), "local");
  const types = app.stacks.flatMap((stack) =>
    Object.values(app.template(stack).toJSON()["Resources"] as Record<string, { Type: string }>).map(
      ({ Type }) => Type,
    ),
  );
  const services = new Set(types.map((type) => type.split("::")[1]!.toLowerCase()));
  expect(services.size).toBeGreaterThan(8);
  expect([...services].filter((name) => !LOCALSTACK_SERVICES.some((started) => started === name))).toEqual([]);
});
