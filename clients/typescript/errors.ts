/** What calls throw. */

/** What the API refused, in its words; `code` is stable. Of failures below HTTP `status` is 0 and `code` `network` or `timeout`. */
export class FreshetError extends Error {
  override readonly name = "FreshetError";
  readonly status: number;
  readonly code: string;
  readonly field: string | null;
  readonly repair: string | null;
  readonly requestId: string | null;
  /** The whole problem document. */
  readonly problem: Readonly<Record<string, unknown>>;

  constructor(status: number, problem: Readonly<Record<string, unknown>>, cause?: unknown) {
    super(String(problem["detail"] ?? `the API answered ${status}`), { cause });
    const text = (name: string): string | null =>
      typeof problem[name] === "string" ? (problem[name] as string) : null;
    this.status = status;
    this.code = text("code") ?? `http_${status}`;
    this.field = text("field");
    this.repair = text("repair");
    this.requestId = text("request_id");
    this.problem = problem;
  }
}
