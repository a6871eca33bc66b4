"""report.html: one page about one model, without any other file, for a person to look at."""
from __future__ import annotations

from datetime import datetime, timezone
from html import escape

import numpy as np

from . import charts
from .metrics import pr_curve, roc_curve

STYLE = """
:root { color-scheme: light dark; --page: #f7f7f5; --card: #fff; --ink: #1d2433; --soft: #667085; --rule: #e4e4df;
  --a: #2563c9; --b: #d9622b; --valid: #6b8fd6; --calibration: #93b5a6; --good: #1b7f5c; }
@media (prefers-color-scheme: dark) { :root { --page: #14171d; --card: #1c2129; --ink: #e6e8ec; --soft: #98a2b3; --rule: #2d333d;
  --a: #6ea3ff; --b: #ff9a63; --valid: #4a68a5; --calibration: #4f7466; --good: #5cc9a0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 36px 20px 60px; }
h1 { font-size: 26px; margin: 0; letter-spacing: -0.01em; } h2 { font-size: 16px; margin: 0 0 2px; }
p { margin: 4px 0; } .soft, figcaption { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 24px 0 16px; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px 18px; margin: 0 0 16px; }
.tile { margin: 0; } .tile b { display: block; font-size: 26px; font-weight: 600; font-variant-numeric: tabular-nums; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(360px, 100%), 1fr)); gap: 16px; margin-bottom: 16px; }
.pair .card { margin: 0; } figure { margin: 0; } figcaption { font-size: 13px; margin-bottom: 8px; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--rule); } .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; } .thin { stroke-width: 1.3; }
.line.a { stroke: var(--a); } .line.b { stroke: var(--b); } .area { stroke: none; opacity: 0.16; }
.area.a, .dot.a, .bar { fill: var(--a); } .area.b, .dot.b { fill: var(--b); } .dot { stroke: var(--card); stroke-width: 1.5; }
.chance, .cross { stroke: var(--soft); stroke-dasharray: 4 4; fill: none; } .cross { stroke-dasharray: none; stroke-width: 1.5; }
.slice.train { fill: var(--a); } .slice.valid { fill: var(--valid); } .slice.calibration { fill: var(--calibration); }
.slice.test { fill: var(--b); } .key { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 5px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 500; color: var(--soft); white-space: normal; vertical-align: bottom; } th:first-child, td:first-child { text-align: left; }
/* Scaled to a narrow window their words would be dots. */
@media (max-width: 700px) { .card { overflow-x: auto; } svg.wide { width: 640px; } }
details summary { cursor: pointer; font-weight: 600; } code { font: 13px ui-monospace, monospace; }
"""
NAMES = {
    "pr_auc": "PR-AUC",
    "roc_auc": "ROC-AUC",
    "recall_at_fpr_1pct": "recall at 1 % false alarms",
    "card_precision_at_100": "card precision@100",
    "log_loss": "log loss",
    "brier": "Brier score",
    "base_rate": "base rate",
}
SHARES = {"recall_at_fpr_1pct", "card_precision_at_100", "base_rate"}


def render(manifest: dict, detail: dict, label: np.ndarray, raw: np.ndarray) -> str:
    """`label` and `raw` are those of the test slice."""
    metrics = manifest["metrics"]
    recall, precision = pr_curve(label, raw)
    fpr, tpr = roc_curve(label, raw)
    body = [
        _head(manifest, detail),
        '<section class="tiles">' + "".join(_tile(name, metrics.get(name)) for name in NAMES) + "</section>",
        _card("The rows in time", _slices_words(detail), charts.slices_chart(detail["slices"])),
        '<section class="pair">',
        _card("Precision and recall", "How much of what is flagged is right, at each share of positives that is found.",
              charts.pr_chart(recall, precision, metrics["base_rate"])),
        _card("True and false alarms", "The dot is where one negative in a hundred is flagged.",
              charts.roc_chart(fpr, tpr, metrics["recall_at_fpr_1pct"])),
        _card("Calibration", "Ten parts of equal size; on the line the probability means what it says. A cross: no positive.",
              charts.calibration_chart(detail["calibration"])),
        _card("Scores by class", f"{_key('a')}negative &nbsp; {_key('b')}positive", charts.scores_chart(label, raw)),
        "</section>",
        _card("What the model leans on", "Mean absolute contribution to the raw score (exact TreeSHAP, log-odds), test slice.",
              charts.importance_chart(detail["importance"])),
        _slices_table(detail["slices"]),
        _details("Hyperparameters", {**manifest["hyperparameters"], **{f"trees {k}": v for k, v in detail["trees"].items()}}),
        _features(manifest),
    ]
    title = escape(f"{manifest['model']}: {manifest['service']}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _head(manifest: dict, detail: dict) -> str:
    made = _day(manifest["created_ms"], "%Y-%m-%d %H:%M UTC")
    commit = (manifest["git_commit"] or "")[:12] or "unknown"
    trees = detail["trees"]
    stopped = ", stopped before its end" if trees["stopped"] else ""
    return (
        f"<h1>{escape(manifest['model'])}</h1><p class=\"soft\">For service <b>{escape(manifest['service'])}</b>, made {made}. "
        f"{trees['used']} of {trees['trained']} trees{stopped}, {len(manifest['features'])} features. "
        f"Plan <code>{escape(manifest['plan_hash'])}</code>, commit <code>{escape(commit)}</code>.</p>"
        '<p class="soft">All figures are of the test slice: rows later than anything that was fitted.</p>'
    )


def _slices_words(detail: dict) -> str:
    days = detail["gap_ms"] / 86_400_000
    unlabelled = f" {detail['rows_unlabelled']} rows without a label are left out." if detail["rows_unlabelled"] else ""
    return f"Before the test slice {days:g} days are left out ({detail['gap_rows']} rows): so late are labels known.{unlabelled}"


def _slices_table(slices: dict[str, dict]) -> str:
    names = [name for name in NAMES if name != "card_precision_at_100"]
    head = "".join(f"<th>{escape(text)}</th>" for text in ["slice", "from", "to", "rows", "positives", *(NAMES[n] for n in names)])
    rows = "".join(
        f"<tr><td>{name}</td><td>{_day(each['from_ms'])}</td><td>{_day(each['to_ms'])}</td><td>{each['rows']:,}</td>"
        f"<td>{each['positives']:,}</td>{''.join(f'<td>{_number(metric, each[metric])}</td>' for metric in names)}</tr>"
        for name, each in slices.items()
    )
    words = "Training far better than test means that trees have learnt rows by heart."
    return _card("Slices", words, f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>')


def _features(manifest: dict) -> str:
    statistics = manifest["statistics"]
    rows = "".join(
        f"<tr><td>{escape(feature['name'])}</td><td>{feature['dtype']}</td><td>{statistics[feature['name']]['null_rate']:.1%}</td>"
        f"<td>{_mean(feature, statistics[feature['name']]['mean'])}</td></tr>"
        for feature in manifest["features"]
    )
    head = "<tr><th>feature</th><th>type</th><th>null</th><th>mean, or categories</th></tr>"
    return f'<details class="card"><summary>Features in training</summary><div class="scroll"><table>{head}{rows}</table></div></details>'


def _mean(feature: dict, mean: float | None) -> str:
    return str(len(feature["categories"])) if "categories" in feature else "–" if mean is None else f"{mean:,.6g}"


def _details(title: str, values: dict) -> str:
    rows = "".join(f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return f'<details class="card"><summary>{title}</summary><table>{rows}</table></details>'


def _tile(name: str, value: float | None) -> str:
    return f'<div class="card tile"><b>{_number(name, value)}</b><span class="soft">{NAMES[name]}</span></div>'


def _number(name: str, value: float | None) -> str:
    if value is None or np.isnan(value):
        return "–"
    return f"{value:.2%}" if name in SHARES else f"{value:.4f}"


def _card(title: str, caption: str, content: str) -> str:
    return f'<figure class="card"><h2>{title}</h2><figcaption>{caption}</figcaption>{content}</figure>'


def _key(kind: str) -> str:
    return f'<span class="key" style="background: var(--{kind})"></span>'


def _day(ms: int, form: str = "%Y-%m-%d") -> str:
    return datetime.fromtimestamp(ms / 1000, timezone.utc).strftime(form)
