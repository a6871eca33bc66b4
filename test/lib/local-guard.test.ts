import { describe, expect, test } from "vitest";
import { assertLoopbackEndpoints, localCdkEnvironment } from "../../lib/local-guard.ts";

describe("the local target is deployed to this machine only", () => {
  test.each([
    { AWS_ENDPOINT_URL: "http://127.0.0.1:4566" },
    { AWS_ENDPOINT_URL: "http://127.0.0.1:4566", AWS_ENDPOINT_URL_S3: "http://127.0.0.1:4566" },
    { AWS_ENDPOINT_URL: "http://localhost:4566" },
    { AWS_ENDPOINT_URL: "http://127.1.2.3:4566/" },
    { AWS_ENDPOINT_URL: "http://[::1]:4566" },
  ])("%o is taken", (environment) => {
    expect(() => assertLoopbackEndpoints(environment)).not.toThrow();
  });

  test.each([
    [{}, "target local needs AWS_ENDPOINT_URL: without it a deployment goes to AWS"],
    [{ AWS_ENDPOINT_URL: "" }, "target local needs AWS_ENDPOINT_URL: without it a deployment goes to AWS"],
    [
      { AWS_ENDPOINT_URL_S3: "http://127.0.0.1:4566" },
      "target local needs AWS_ENDPOINT_URL: without it a deployment goes to AWS",
    ],
    [
      { AWS_ENDPOINT_URL: "https://kinesis.us-east-1.amazonaws.com" },
      "target local deploys to this machine only, but AWS_ENDPOINT_URL is https://kinesis.us-east-1.amazonaws.com",
    ],
    [
      { AWS_ENDPOINT_URL: "http://127.0.0.1:4566", AWS_ENDPOINT_URL_S3: "https://s3.amazonaws.com" },
      "target local deploys to this machine only, but AWS_ENDPOINT_URL_S3 is https://s3.amazonaws.com",
    ],
    [
      { AWS_ENDPOINT_URL: "http://127.0.0.1:4566", AWS_ENDPOINT_URL_CLOUDFORMATION: "http://10.0.0.8" },
      "target local deploys to this machine only, but AWS_ENDPOINT_URL_CLOUDFORMATION is http://10.0.0.8",
    ],
    [
      { AWS_ENDPOINT_URL: "http://127.0.0.1.example.com" },
      "target local deploys to this machine only, but AWS_ENDPOINT_URL is http://127.0.0.1.example.com",
    ],
    [
      { AWS_ENDPOINT_URL: "http://localhost.example.com" },
      "target local deploys to this machine only, but AWS_ENDPOINT_URL is http://localhost.example.com",
    ],
    [
      { AWS_ENDPOINT_URL: "http://127.0.0.1@example.com" },
      "target local deploys to this machine only, but AWS_ENDPOINT_URL is http://example.com",
    ],
    [
      { AWS_ENDPOINT_URL: "127.0.0.1:4566" },
      "target local deploys to this machine only, but AWS_ENDPOINT_URL is not a URL",
    ],
    [
      { AWS_ENDPOINT_URL: "http://0.0.0.0:4566" },
      "target local deploys to this machine only, but AWS_ENDPOINT_URL is http://0.0.0.0:4566",
    ],
    [
      { AWS_ENDPOINT_URL: "http://127.0.0.1:4566", AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: "true" },
      "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true, so the SDK would ignore AWS_ENDPOINT_URL and deploy to AWS",
    ],
  ])("%o is refused", (environment, message) => {
    expect(() => assertLoopbackEndpoints(environment)).toThrow(message);
  });

  test("a password in an endpoint does not reach the message", () => {
    const environment = { AWS_ENDPOINT_URL: "https://user:hunter2@example.com" };
    expect(() => assertLoopbackEndpoints(environment)).toThrow(/^(?!.*hunter2).*example\.com$/);
  });
});

describe("what cdk is run with", () => {
  const given = {
    PATH: "/bin",
    HOME: "/home/someone",
    AWS_PROFILE: "production",
    AWS_ACCESS_KEY_ID: "AKIAREAL",
    AWS_SESSION_TOKEN: "real",
    AWS_ENDPOINT_URL_LAMBDA: "https://lambda.us-east-1.amazonaws.com",
  };

  test("holds nothing of the caller's AWS account", () => {
    const environment = localCdkEnvironment(given, "http://127.0.0.1:4566");
    expect(environment).toMatchObject({
      PATH: "/bin",
      HOME: "/home/someone",
      AWS_ACCESS_KEY_ID: "test",
      AWS_ENDPOINT_URL: "http://127.0.0.1:4566",
      AWS_ENDPOINT_URL_S3: "http://127.0.0.1:4566",
    });
    expect(environment).not.toHaveProperty("AWS_PROFILE");
    expect(environment).not.toHaveProperty("AWS_SESSION_TOKEN");
    expect(environment).not.toHaveProperty("AWS_ENDPOINT_URL_LAMBDA");
  });

  test("is refused for an endpoint elsewhere", () => {
    expect(() => localCdkEnvironment(given, "https://example.com")).toThrow(
      "target local deploys to this machine only, but AWS_ENDPOINT_URL is https://example.com",
    );
  });
});
