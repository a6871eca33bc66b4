import { expect, test } from "vitest";
import { synthesizeAws } from "./synthesized.ts";

const app = synthesizeAws("prod");

test("the replay function may remove what the mapping gave up, and nothing else that it reads or writes", () => {
  const fn = app.named("AWS::Lambda::Function", "FunctionName", "freshet-prod-replay");
  const role = fn.Properties["Role"]["Fn::GetAtt"][0];
  const deleting = app
    .resources("AWS::IAM::Policy")
    .filter(([, { Properties }]) => Properties["Roles"].some((attached: any) => attached.Ref === role))
    .flatMap(([, { Properties }]) => Properties["PolicyDocument"].Statement)
    .filter(({ Action }) => /"(s3|dynamodb):Delete/.test(JSON.stringify(Action)));
  expect(deleting.map(({ Action }) => Action)).toEqual(["s3:DeleteObject"]);
  expect(JSON.stringify(deleting[0].Resource)).toContain("/aws/lambda/*");
});
