/** `/docs`: the OpenAPI document as one readable page. No script, no font, no host but this one. */

type Json = Record<string, any>;

export function docsPage(document: Json, codes: Readonly<Record<string, { status: number; title: string }>>): string {
  const operations = Object.entries<Json>(document["paths"]).flatMap(([path, item]) =>
    Object.entries<Json>(item).map(([method, operation]) => ({ path, method, operation })),
  );
  const tags = [...new Set(operations.map(({ operation }) => operation["tags"]?.[0] ?? "Other"))];
  const schemas: Json = document["components"]?.schemas ?? {};
  const sections = tags.map((tag) => {
    const own = operations.filter(({ operation }) => operation["tags"]?.[0] === tag);
    return `<h2 id="${slug(tag)}">${escapeHtml(tag)}</h2>${own.map((one) => operationHtml(one, schemas)).join("")}`;
  });
  const rows = Object.entries(codes).map(
    ([code, { status, title }]) =>
      `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td>${escapeHtml(title)}</td></tr>`,
  );
  const links = [...tags, "Error codes"].map((tag) => `<a href="#${slug(tag)}">${escapeHtml(tag)}</a>`).join(" · ");
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Freshet API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>${STYLE}</style></head><body><main>
<h1>Freshet API</h1><p>${escapeHtml(document["info"].description)} Send your key in the header <code>x-api-key</code>.
Machine-readable: <a href="openapi.json">openapi.json</a>.</p><nav>${links}</nav>${sections.join("")}
<h2 id="error-codes">Error codes</h2><table><tr><th>code</th><th>status</th><th>meaning</th></tr>${rows.join("")}</table>
</main></body></html>`;
}

function operationHtml({ path, method, operation }: { path: string; method: string; operation: Json }, schemas: Json) {
  const scope = operation["x-scope"] ? `<span class="scope">scope ${escapeHtml(operation["x-scope"])}</span>` : "";
  const request = operation["requestBody"]?.content ?? {};
  const bodies = Object.entries<Json>(request).map(
    ([type, { schema }]) =>
      `<h4>Body <code>${escapeHtml(type)}</code></h4>${schemaHtml(schema, schemas)}${exampleHtml(schema, schemas)}`,
  );
  const answers = Object.entries<Json>(operation["responses"]).map(([status, answer]) => {
    const [content] = Object.values<Json>(answer["content"] ?? {});
    const detail = content && Number(status) < 300 ? schemaHtml(content["schema"], schemas) : "";
    return `<li><b>${status}</b> ${inline(answer["description"])}${detail}</li>`;
  });
  return `<section><h3><span class="method">${method.toUpperCase()}</span> <code>${escapeHtml(path)}</code> ${scope}</h3>
<p>${escapeHtml(operation["summary"] ?? "")}.</p>${operation["description"] ? `<p>${inline(operation["description"])}</p>` : ""}
<details><summary>Details</summary>${bodies.join("")}<h4>Answers</h4><ul>${answers.join("")}</ul></details></section>`;
}

/** A table of properties; nested objects are shown by their type, named ones by name. */
function schemaHtml(given: Json | undefined, schemas: Json): string {
  const schema = resolve(given, schemas);
  const object = schema?.["properties"] ? schema : firstObject(schema, schemas);
  if (!object) return `<p><code>${escapeHtml(typeOf(schema, schemas))}</code></p>`;
  const required: string[] = object["required"] ?? [];
  const rows = Object.entries<Json>(object["properties"]).map(
    ([name, property]) =>
      `<tr><td><code>${escapeHtml(name)}</code>${required.includes(name) ? "" : " <i>optional</i>"}</td>` +
      `<td><code>${escapeHtml(typeOf(property, schemas))}</code></td>` +
      `<td>${inline(resolve(property, schemas)?.["description"] ?? property["description"] ?? "")}</td></tr>`,
  );
  const about = object["description"] ? `<p>${inline(object["description"])}</p>` : "";
  return `${about}<table><tr><th>field</th><th>type</th><th></th></tr>${rows.join("")}</table>`;
}

function exampleHtml(given: Json | undefined, schemas: Json): string {
  const schema = resolve(given, schemas);
  const example = schema?.["example"] ?? firstObject(schema, schemas)?.["example"];
  return example === undefined ? "" : `<pre>${escapeHtml(JSON.stringify(example, null, 2))}</pre>`;
}

function firstObject(schema: Json | undefined, schemas: Json): Json | undefined {
  const options: Json[] = schema?.["anyOf"] ?? [];
  return options.map((option) => resolve(option, schemas)).find((option) => option?.["properties"]);
}

function resolve(schema: Json | undefined, schemas: Json): Json | undefined {
  const reference: string | undefined = schema?.["$ref"];
  return reference === undefined ? schema : schemas[reference.slice(reference.lastIndexOf("/") + 1)];
}

function typeOf(schema: Json | undefined, schemas: Json): string {
  if (schema === undefined) return "any";
  if (schema["$ref"]) return String(schema["$ref"]).split("/").at(-1) as string;
  if (schema["enum"]) return schema["enum"].map((value: unknown) => JSON.stringify(value)).join(" | ");
  const options: Json[] | undefined = schema["anyOf"] ?? schema["oneOf"];
  if (options) return options.map((option) => typeOf(option, schemas)).join(" | ");
  if (schema["type"] === "array") return `${typeOf(schema["items"], schemas)}[]`;
  if (Array.isArray(schema["type"])) return schema["type"].join(" | ");
  if (schema["type"] === "object" && schema["additionalProperties"]) {
    return `{ name: ${typeOf(schema["additionalProperties"], schemas)} }`;
  }
  return schema["format"] === "binary" ? "bytes" : (schema["type"] ?? "any");
}

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escapeHtml = (text: string): string => text.replace(/[&<>"]/g, (character) => ENTITIES[character]);
const inline = (text: string): string => escapeHtml(text).replace(/`([^`]+)`/g, "<code>$1</code>");
const slug = (text: string): string => text.toLowerCase().replaceAll(" ", "-");

const STYLE = `
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}
h3{margin:0;font-size:1rem}section{border:1px solid #8884;border-radius:6px;padding:.75rem 1rem;margin:.75rem 0}
.method{font-weight:700}.scope{float:right;opacity:.7;font-weight:400}
code{font:0.9em ui-monospace,monospace;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{border-top:1px solid #8884;padding:.3rem .5rem;text-align:left;vertical-align:top}td code{overflow-wrap:break-word}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8882;padding:.5rem;border-radius:4px;font:0.9em ui-monospace,monospace}
summary{cursor:pointer}nav{margin:1rem 0}p{margin:.4rem 0}
@media(max-width:40rem){.scope{float:none}tr{display:block;border-top:1px solid #8884;padding:.3rem 0;overflow-wrap:anywhere}td,th{display:inline;border:0;padding:0 .5rem 0 0}}`;
