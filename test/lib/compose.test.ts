/** The compose file cannot be run where there is no Docker; what would hurt if it were wrong is asserted on its text. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

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
