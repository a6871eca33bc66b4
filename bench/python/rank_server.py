"""The baseline of `rank`: what a careful Python service does for the same answer. FastAPI on uvicorn, the features of one card and
500 merchants by one pipelined trip with hiredis, one run of the model over all rows with one thread.

It reads values that are ready, which somebody else has aggregated; Freshet folds tiles of windows on the way.

`rank_server.py PORT VALKEY_PORT MODEL.onnx SPEC.json`; SPEC: {key, card: [features], merchant: [features]}.
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
CARD, MERCHANT = SPEC["card"], SPEC["merchant"]
MEAN, OTHER_MEAN = CARD.index("card_activity:amount_mean_24h"), MERCHANT.index("merchant_activity:amount_mean_24h")

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
store = redis.Redis(port=VALKEY_PORT)
app = FastAPI()


class Request(BaseModel):
    card_id: str
    candidates: list[str]
    k: int = 10


class Item(BaseModel):
    id: str
    score: float
    features_missing: list[str]


class Ranking(BaseModel):
    items: list[Item]
    model_version: str
    latency_ms: float
    as_of_ms: int
    request_id: str


@app.post("/v1/rank/pick")
async def rank(request: Request, x_api_key: str = Header()) -> Ranking:
    started = time.perf_counter()
    if x_api_key != SPEC["key"]:
        raise HTTPException(401)
    as_of_ms = int(time.time() * 1000)
    trip = store.pipeline(transaction=False)
    trip.hmget(f"py:card:{request.card_id}", CARD)
    for candidate in request.candidates:
        trip.hmget(f"py:merchant:{candidate}", MERCHANT)
    card, *merchants = await trip.execute()
    count = len(merchants)
    rows = np.empty((count, len(CARD) + len(MERCHANT) + 1))
    rows[:, : len(CARD)] = np.array(card, dtype=float)
    rows[:, len(CARD) : -1] = np.array(merchants, dtype=float)
    rows[:, -1] = rows[:, MEAN] / rows[:, len(CARD) + OTHER_MEAN]
    probability = session.run(["probability"], {"features": rows})[0][:, 0]
    best = np.argsort(-probability, kind="stable")[: request.k]
    return Ranking(
        items=[
            Item(
                id=request.candidates[at],
                score=float(probability[at]),
                features_missing=[name for name, value in zip(MERCHANT, merchants[at]) if value is None],
            )
            for at in best
        ],
        model_version="bench",
        latency_ms=(time.perf_counter() - started) * 1000,
        as_of_ms=as_of_ms,
        request_id=str(uuid.uuid4()),
    )


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error", access_log=False)
