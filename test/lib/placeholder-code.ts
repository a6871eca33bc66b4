import { Code } from "aws-cdk-lib/aws-lambda";
import type { FunctionCode } from "../../lib/constructs/function-code.ts";

/** Same resources, no bundle, no function file needed. */
export const placeholderCode: FunctionCode = {
  of: (name) => Code.fromInline(`exports.handler = async () => { throw new Error("no code in ${name}"); };`),
};
