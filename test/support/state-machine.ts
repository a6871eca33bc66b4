/** State machines out of synthesized templates. */

/**
 * The definition with every reference put in: CloudFormation's part of the work.
 * @param values by logical id, or `id.attribute`; what is not among them becomes `<id>`
 */
export function definitionOf(
  resource: { Properties: Record<string, any> },
  values: Readonly<Record<string, string>> = {},
): any {
  const text = (value: any): string => {
    if (typeof value === "string") return value;
    if (value.Ref !== undefined) return values[value.Ref] ?? `<${value.Ref}>`;
    if (value["Fn::GetAtt"] !== undefined) {
      const [id, attribute] = value["Fn::GetAtt"];
      return values[`${id}.${attribute}`] ?? values[id] ?? `<${id}>`;
    }
    if (value["Fn::ImportValue"] !== undefined) {
      const name = text(value["Fn::ImportValue"]);
      return values[name] ?? `<${name}>`;
    }
    if (value["Fn::Join"] !== undefined) return value["Fn::Join"][1].map(text).join(value["Fn::Join"][0]);
    if (value["Fn::Select"] !== undefined) return "<part>";
    throw new Error(`no text in ${JSON.stringify(value)}`);
  };
  return JSON.parse(text(resource.Properties["DefinitionString"]));
}
