/** Requests of a state machine, as the service that gets them knows them. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { venvPython } from "../../local/home.ts";

const SHAPE = join(import.meta.dirname, "..", "lib", "request_shape.py");

/** A state's parameters for what an execution holds by then: paths, and the intrinsic functions that our machines use. */
export function resolved(parameters: unknown, state: object, execution: { readonly Id: string }): unknown {
  const argument = (text: string): unknown => {
    const value = text.trim();
    if (value.startsWith("'")) return value.slice(1, -1);
    const [root, path] = value.startsWith("$$.") ? [{ Execution: execution }, value.slice(3)] : [state, value.slice(2)];
    const found = path.split(".").reduce<any>((at, name) => at?.[name], root);
    if (found === undefined) throw new Error(`nothing is at ${value}`);
    return found;
  };
  const term = (text: string): unknown => {
    const [, name, inner] = /^States\.(\w+)\((.*)\)$/.exec(text) ?? [];
    if (name === undefined) return argument(text);
    const [first, ...rest] = inner!.split(",").map(argument);
    if (name === "Hash") return createHash(String(rest[0])).update(String(first)).digest("hex");
    if (name !== "Format") throw new Error(`no function ${name}`);
    return rest.reduce<string>((all, value) => all.replace("{}", String(value)), String(first));
  };
  if (Array.isArray(parameters)) return parameters.map((each) => resolved(each, state, execution));
  if (typeof parameters !== "object" || parameters === null) return parameters;
  return Object.fromEntries(
    Object.entries(parameters).map(([name, value]) =>
      name.endsWith(".$") ? [name.slice(0, -2), term(value)] : [name, resolved(value, state, execution)],
    ),
  );
}

/** What AWS's own client, and the service by its published model, would say of a request; empty when nothing. */
export function shapeErrors(service: string, operation: string, request: unknown): string[] {
  const told = execFileSync(venvPython(), [SHAPE, service, operation], {
    input: JSON.stringify(request),
    encoding: "utf8",
  });
  const { wrong, texts } = JSON.parse(told) as {
    wrong: string[];
    texts: { at: string; value: string; pattern: string }[];
  };
  // Some patterns of the models end in a repetition of the text's end, which is nobody's syntax: lengths are told apart.
  const fits = (pattern: string) => new RegExp(`^(?:${pattern.replace(/\$\{\d+,\d+\}$/, "")})$`, "u");
  const unmatched = texts.filter(({ value, pattern }) => !fits(pattern).test(value));
  return [...wrong, ...unmatched.map(({ at, pattern }) => `${at} does not match ${pattern}`)];
}
