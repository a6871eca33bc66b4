/** Copies in another region: of the archive and the bulk snapshots, where a stage says where to. */
import { AwsSolutionsChecks } from "cdk-nag";
import { expect, test } from "vitest";
import { stageNamed } from "../../lib/stage.ts";
import { awsTarget } from "../../lib/targets/aws.ts";
import { synthesize, synthesizeAws } from "./synthesized.ts";

const replicaOf = (name: string) => ({
  bucketArn: `arn:aws:s3:::copy-of-${name}`,
  keyArn: `arn:aws:kms:eu-central-1:111122223333:key/${name}`,
});
const stage = {
  ...stageNamed("prod"),
  replicas: { archive: replicaOf("archive"), snapshots: replicaOf("snapshots") },
};
const app = synthesize(awsTarget(), stage);
const bucketOf = (id: string) =>
  app.resources("AWS::S3::Bucket").find(([name]) => name.startsWith(`storage/${id}Bucket`))![1].Properties;

test.each([
  ["Archive", "archive"],
  ["BulkSnapshots", "snapshots"],
])("%s is versioned and copied, encrypted with the copy's own key", (id, name) => {
  const { VersioningConfiguration, ReplicationConfiguration, LifecycleConfiguration } = bucketOf(id);
  expect(VersioningConfiguration).toEqual({ Status: "Enabled" });
  expect(ReplicationConfiguration.Rules).toEqual([
    expect.objectContaining({
      Status: "Enabled",
      Destination: {
        Bucket: `arn:aws:s3:::copy-of-${name}`,
        EncryptionConfiguration: { ReplicaKmsKeyID: expect.stringContaining(`key/${name}`) },
      },
      SourceSelectionCriteria: { SseKmsEncryptedObjects: { Status: "Enabled" } },
    }),
  ]);
  // Versions of what was removed do not stay: an erasure would not end, and a round's objects would be paid for ever.
  expect(LifecycleConfiguration.Rules).toContainEqual(
    expect.objectContaining({ NoncurrentVersionExpiration: { NoncurrentDays: 2 } }),
  );
});

test("no other bucket is, and none where the stage names no copy", () => {
  const copied = (of: typeof app) =>
    of
      .resources("AWS::S3::Bucket")
      .filter(([, { Properties }]) => Properties["ReplicationConfiguration"] !== undefined);
  expect(copied(app)).toHaveLength(2);
  expect(copied(synthesizeAws("prod"))).toHaveLength(0);
});

test("the role that copies may read the one bucket and write the other", () => {
  const { violations } = new AwsSolutionsChecks(app.app).validateScope(app.app);
  const roles = violations
    .flatMap(({ ruleName, violatingResources }) =>
      violatingResources.map(({ constructPath = "" }) => [ruleName, constructPath]),
    )
    .filter(([, path]) => /ReplicationRole/.test(path));
  // Objects' names are not known beforehand; buckets are.
  expect(
    roles.filter(
      ([rule]) =>
        !/^AwsSolutions-IAM5\[(Resource::.*(Bucket|copy-of).*\/\*|Action::(s3:.*|kms:(GenerateDataKey|ReEncrypt)\*))\]$/.test(
          rule,
        ),
    ),
  ).toEqual([]);
});
