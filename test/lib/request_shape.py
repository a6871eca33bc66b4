"""Checks a request as AWS's own client knows it: argv are service and operation, stdin is the request as JSON.

Types, required members and least lengths by botocore's validator; greatest lengths and enumerations, which clients leave to the
service, by the same service model. Prints what is wrong, and texts that a pattern of the model is to match, as one JSON object.
"""
import json
import sys

import botocore.session
from botocore.validate import ParamValidator

service, operation = sys.argv[1:]
shape = botocore.session.get_session().get_service_model(service).operation_model(operation).input_shape
request = json.load(sys.stdin)
report = ParamValidator().validate(request, shape)
wrong = [report.generate_report()] if report.has_errors() else []
texts = []


def walk(value, shape, at):
    if shape.type_name == "structure":
        for name, member in value.items():
            walk(member, shape.members[name], f"{at}.{name}")
    elif shape.type_name == "list":
        for member in value:
            walk(member, shape.member, f"{at}[]")
    elif shape.type_name == "map":
        for name, member in value.items():
            walk(name, shape.key, f"{at} key {name}")
            walk(member, shape.value, f"{at}.{name}")
    elif shape.type_name == "string":
        if len(value) > shape.metadata.get("max", len(value)):
            wrong.append(f"{at} is longer than {shape.metadata['max']}")
        if shape.enum and value not in shape.enum:
            wrong.append(f"{at} is none of {', '.join(shape.enum)}")
        if "pattern" in shape.metadata:
            texts.append({"at": at, "value": value, "pattern": shape.metadata["pattern"]})


if not wrong:
    walk(request, shape, operation)
print(json.dumps({"wrong": wrong, "texts": texts}))
