import { expect, it } from "vitest";
import { parseFields } from "../../cli/commands/score.ts";
import { plan } from "../../features/plan.ts";

const fraud = plan.services.find(({ name }) => name === "fraud")!;
const parse = (...fields: string[]) => parseFields(plan, fraud, fields);

it("fields have the types that the service declares; join keys are texts whatever they look like", () => {
  expect(parse("card_id=007", "amount=12.5", "country=null", "device_id=null", "transaction_id=t1")).toEqual({
    ...{ card_id: "007", amount: 12.5, country: null },
    ...{ device_id: null, transaction_id: "t1" },
  });
});

it.each([
  ["amuont=12.5", "service fraud takes no field amuont", /^give some of card_id, .*amount, country$/],
  ["item_id=i1", "service fraud takes no field item_id", /^give some of/],
  ["amount=much", "amount=much: a double is expected", /^write a number, as 12\.5$/],
  ["amount", "a field is written name=value, given amount", /^write card_id=c1/],
])("%s is refused with what the service takes", (field, message, repair) => {
  expect(() => parse(field)).toThrow(
    expect.objectContaining({ code: "field_invalid", message, repair: expect.stringMatching(repair) }),
  );
});
