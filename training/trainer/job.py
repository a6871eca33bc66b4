"""One training job, from channels to artefact. Reads as the list of its steps."""
from __future__ import annotations

import time

import numpy as np

from . import metrics as measure
from .artefact import manifest, write_artefact
from .calibrate import fit_platt, sigmoid
from .champion import CHANNEL as CHAMPION
from .champion import Unmeasurable, champion_scores
from .contract import Job, Stop, say, say_metric, write_file
from .data import TrainingSet, read_training_set
from .encode import Encoder, fit_encoder
from .explain import sidecar
from .export_onnx import to_onnx
from .fit import fit
from .golden import CHECKED_ROWS, golden_rows, hostile_rows, verify
from .hyperparameters import Hyperparameters, parse
from .importance import importance
from .json_text import to_json
from .report import render
from .split import SLICES, Split, split_by_time
from .statistics import statistics
from .trees import flatten

CHANNEL = "train"
IMPORTANCE_ROWS = 1_000


def run(job: Job, stop: Stop) -> None:
    """Leaves the artefact in job.model and metrics and report in job.output as well. Raises Refusal."""
    started = time.monotonic()
    wanted = parse(job.hyperparameters)
    data = read_training_set(job.channel(CHANNEL), wanted)
    split = split_by_time(data.as_of_ms, data.label, wanted, int(data.manifest["label_delay_ms"] or 0))
    say_what_was_read(data, split)
    encoder = fit_encoder(data.features, [column[split.rows("train")] for column in data.columns], wanted.max_categories)
    x, y = encoder.encode(data.columns), data.label
    parts = {name: (x[split.rows(name)], y[split.rows(name)]) for name in SLICES}

    model = fit(parts["train"], parts["valid"], encoder.categorical, wanted, stop, job.checkpoints)
    booster, best = model.booster, model.iterations
    say(f"[progress] trees={model.trained}; best={best}; stopped={int(model.stopped)};")

    def score(rows: np.ndarray) -> np.ndarray:
        return booster.predict(rows, raw_score=True, num_iteration=best)

    a, b = fit_platt(score(parts["calibration"][0]), parts["calibration"][1])
    if a == 0:
        say("warning: on the calibration slice the score is no better than chance; every row gets the base rate")
    summaries = {name: evaluate(score(rows), label, a, b) for name, (rows, label) in parts.items()}
    test_raw = a * score(parts["test"][0]) + b
    summaries["test"]["card_precision_at_100"] = cards_of_test(data, split, test_raw)
    standing = measured_champion(job, data, split)
    for name in ("valid", "test"):
        for metric, value in summaries[name].items():
            say_metric(name, metric, value)

    trees = flatten(booster, best)
    random = np.random.default_rng(wanted.seed)
    hostile = hostile_rows(x, trees, encoder, CHECKED_ROWS, random)
    worst = verify(booster, best, trees, np.vstack([hostile, parts["test"][0][:CHECKED_ROWS]]))
    say(f"exported trees equal LightGBM's within {worst:.3g} over {len(hostile)} hostile rows and those of the test slice")

    names = [feature.name for feature in encoder.features]
    leaned_on = importance(booster, best, parts["test"][0][:IMPORTANCE_ROWS], names, a)
    tested = summaries["test"]
    top = {**tested, **{f"rows_{name}": split.count(name) for name in ("train", "valid", "test")}}
    detail = {
        "slices": {name: slice_facts(data, split, name, summaries[name]) for name in SLICES},
        "gap_ms": split.gap_ms,
        "gap_rows": split.gap_rows,
        "rows_unlabelled": data.unlabelled,
        "trees": {"used": best, "trained": model.trained, "stopped": model.stopped},
        "calibration": measure.calibration_table(parts["test"][1], sigmoid(test_raw)),
        "importance": leaned_on,
        "export_difference": worst,
        "seconds": round(time.monotonic() - started, 3),
    }
    created_ms = wanted.created_ms or int(time.time() * 1000)
    fitted = {"trees": best, "to_ms": int(data.as_of_ms[split.rows("calibration")][-1])}
    described = manifest(
        data.manifest, wanted, created_ms, encoder, (a, b), top, statistics(parts["train"][0], encoder), fitted, standing
    )
    proto = to_onnx(trees, x.shape[1], a, b, {"service": described["service"], "plan_hash": described["plan_hash"]})
    golden = golden_rows(booster, best, a, b, hostile[: wanted.golden_rows])
    page = render(described, detail, parts["test"][1], test_raw)
    files = {
        "model.onnx": proto.SerializeToString(deterministic=True),
        "golden.json": to_json(golden),
        "trees.json": to_json(sidecar(trees, x.shape[1], a, b)),
        "metrics.json": to_json({**top, **detail}, indent=2),
        "report.html": page.encode("utf-8"),
    }
    write_artefact(job.model, files, described)
    for name in ("metrics.json", "report.html"):
        write_file(job.output / name, files[name])
    say(f"model written: {best} trees, {len(files['model.onnx'])} bytes, {time.monotonic() - started:.1f} s")


def evaluate(score: np.ndarray, label: np.ndarray, a: float, b: float) -> dict:
    raw = a * score + b
    return measure.summary(label, raw, sigmoid(raw))


def measured_champion(job: Job, data: TrainingSet, split: Split) -> dict | None:
    """The champion's measures on this job's test slice, and whose they are; None without a champion that can be measured."""
    if CHAMPION not in job.channels or not (job.channel(CHAMPION) / "manifest.json").exists():
        return None
    try:
        digest, raw = champion_scores(job.channel(CHAMPION), data, split)
    except Unmeasurable as reason:
        say(f"the champion is not measured on the test slice: {reason}")
        return None
    summary = measure.summary(data.label[split.rows("test")], raw, sigmoid(raw))
    summary["card_precision_at_100"] = cards_of_test(data, split, raw)
    say(f"the champion on the same rows: pr_auc={summary['pr_auc']:.6f}, roc_auc={summary['roc_auc']:.6f}")
    return {"manifest_sha256": digest, "metrics": summary}


def cards_of_test(data: TrainingSet, split: Split, raw: np.ndarray) -> float | None:
    if data.cards is None:
        return None
    rows = split.rows("test")
    return measure.card_precision(data.as_of_ms[rows], data.cards[rows], data.label[rows], raw)


def slice_facts(data: TrainingSet, split: Split, name: str, summary: dict) -> dict:
    rows = split.rows(name)
    times = data.as_of_ms[rows]
    return {
        "rows": split.count(name),
        "positives": int(data.label[rows].sum()),
        "from_ms": int(times[0]),
        "to_ms": int(times[-1]),
        **summary,
    }


def say_what_was_read(data: TrainingSet, split: Split) -> None:
    say(f"{len(data.label)} rows, {int(data.label.sum())} positive, {len(data.features)} features; unlabelled: {data.unlabelled}")
    for name in SLICES:
        rows = split.rows(name)
        say(f"  {name}: {split.count(name)} rows, {int(data.label[rows].sum())} positive")
    say(f"  left out between calibration and test: {split.gap_rows} rows ({split.gap_ms / 86_400_000:g} days of label delay)")
