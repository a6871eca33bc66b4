"""The baseline of `score`: what a careful Python service does for the same answer. FastAPI on uvicorn (uvloop, httptools), the
features of four entities by one pipelined trip with hiredis, ratios on demand, onnxruntime with one thread.

It reads values that are ready: 27 fields, which somebody else has aggregated. Freshet folds tiles of windows on the way.

`score_server.py PORT VALKEY_PORT MODEL.onnx SPEC.json`; SPEC: {key, entities: [{name, join_key, features}], country_codes}.
"""
from __future__ import annotations

import json
import sys
import time
import uuid

import numpy as np
import onnxruntime
import redis.asyncio as redis
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

PORT, VALKEY_PORT, MODEL, SPEC = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.load(open(sys.argv[4]))
ENTITIES, CODES = SPEC["entities"], SPEC["country_codes"]
NAMES = [name for entity in ENTITIES for name in entity["features"]]
MEAN, LARGEST = NAMES.index("card_activity:amount_mean_24h"), NAMES.index("card_activity:amount_max_24h")

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
store = redis.Redis(port=VALKEY_PORT)
app = FastAPI()


class Request(BaseModel):
    card_id: str
    merchant_id: str
    device_id: str | None = None
    user_id: str | None = None
    amount: float
    country: str


class Score(BaseModel):
    score: float
    decision: str
    model_version: str
    features_used: list[str]
    features_missing: list[str]
    latency_ms: float
    as_of_ms: int
    request_id: str


def ratio(a: float, b: float) -> float:
    return a / b if b == b and b != 0 else float("nan")


@app.post("/v1/score/fraud")
async def score(request: Request, x_api_key: str = Header()) -> Score:
    started = time.perf_counter()
    if x_api_key != SPEC["key"]:
        raise HTTPException(401)
    as_of_ms = int(time.time() * 1000)
    trip = store.pipeline(transaction=False)
    for entity in ENTITIES:
        trip.hmget(f"py:{entity['name']}:{getattr(request, entity['join_key'])}", entity["features"])
    stored = [value for values in await trip.execute() for value in values]
    row = [float("nan") if value is None else float(value) for value in stored]
    row += [ratio(request.amount, row[MEAN]), ratio(request.amount, row[LARGEST])]
    row += [request.amount, CODES.get(request.country, -1)]
    probability, _ = session.run(["probability", "raw"], {"features": np.array([row])})
    result = float(probability[0, 0])
    return Score(
        score=result,
        decision="decline" if result >= 0.85 else "review" if result >= 0.5 else "approve",
        model_version="bench",
        features_used=[name for name, value in zip(NAMES, stored) if value is not None],
        features_missing=[name for name, value in zip(NAMES, stored) if value is None],
        latency_ms=(time.perf_counter() - started) * 1000,
        as_of_ms=as_of_ms,
        request_id=str(uuid.uuid4()),
    )


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error", access_log=False)
