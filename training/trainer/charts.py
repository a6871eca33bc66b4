"""Charts as inline SVG. Colours are the page's CSS variables, so that one drawing serves light and dark."""
from __future__ import annotations

from html import escape

import numpy as np

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 40
MOST_POINTS = 240


class Axes:
    """Maps data to the drawing. `x` and `y` are (from, to) of the data."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], width: int = WIDTH, height: int = HEIGHT):
        self.x_range, self.y_range = x, y
        self.width, self.height = width, height

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)

    def path(self, xs, ys) -> str:
        return "M" + "L".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys))

    def frame(self, x_title: str, y_title: str, x_ticks, y_ticks, x_format="{:g}", y_format="{:g}") -> str:
        out = []
        for tick in y_ticks:
            y = self.y(tick)
            out.append(f'<line class="grid" x1="{LEFT}" x2="{self.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{y_format.format(tick)}</text>')
        for tick in x_ticks:
            x = self.x(tick)
            out.append(f'<text x="{x:.1f}" y="{self.height - BOTTOM + 16}" text-anchor="middle">{x_format.format(tick)}</text>')
        middle = (LEFT + self.width - RIGHT) / 2
        out.append(f'<text class="title" x="{middle:.0f}" y="{self.height - 6}" text-anchor="middle">{escape(x_title)}</text>')
        side = (TOP + self.height - BOTTOM) / 2
        out.append(
            f'<text class="title" transform="translate(12 {side:.0f}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>'
        )
        return "".join(out)


def svg(content: str, label: str, width: int = WIDTH, height: int = HEIGHT) -> str:
    kind = ' class="wide"' if width > WIDTH else ""
    return f'<svg{kind} viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}">{content}</svg>'


def thinned(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MOST_POINTS of a curve, its ends among them, evenly along its length: by rows, of rare positives nothing would be left."""
    if len(xs) <= MOST_POINTS:
        return xs, ys
    length = np.append(0, np.cumsum(np.abs(np.diff(xs)) + np.abs(np.diff(ys))))
    keep = np.unique(np.append(np.searchsorted(length, np.linspace(0, length[-1], MOST_POINTS - 1)), len(xs) - 1))
    return xs[keep], ys[keep]


UNIT = [0, 0.25, 0.5, 0.75, 1]


def pr_chart(recall: np.ndarray, precision: np.ndarray, base_rate: float) -> str:
    axes = Axes((0, 1), (0, 1))
    xs, ys = thinned(recall, precision)
    chance = axes.y(base_rate)
    content = (
        axes.frame("recall: share of positives found", "precision", UNIT, UNIT)
        + f'<line class="chance" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{chance:.1f}" y2="{chance:.1f}"/>'
        + f'<text x="{LEFT + 6}" y="{chance - 5:.1f}">chance {base_rate:.2%}</text>'
        + f'<path class="line a" d="{axes.path(xs, ys)}"/>'
    )
    return svg(content, "precision and recall at every threshold")


def roc_chart(fpr: np.ndarray, tpr: np.ndarray, recall_at_1pct: float) -> str:
    axes = Axes((0, 1), (0, 1))
    xs, ys = thinned(fpr, tpr)
    x, y = axes.x(0.01), axes.y(recall_at_1pct)
    area = axes.path(np.append(xs, 1), np.append(ys, 0)) + "Z"
    content = (
        axes.frame("false positive rate", "true positive rate", UNIT, UNIT)
        + f'<path class="chance" d="{axes.path([0, 1], [0, 1])}"/><path class="area a" d="{area}"/>'
        + f'<path class="line a" d="{axes.path(xs, ys)}"/><circle class="dot b" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
        + f'<text x="{x + 9:.1f}" y="{y + 4:.1f}">{recall_at_1pct:.1%} found at 1 % false alarms</text>'
    )
    return svg(content, "receiver operating characteristic")


def calibration_chart(table: list[dict]) -> str:
    """On logarithmic axes: of rare positives most parts lie near zero."""
    values = [row[name] for row in table for name in ("mean_probability", "share_positive") if row[name] > 0]
    low = np.floor(np.log10(min(values, default=0.1)))
    axes = Axes((low, 0), (low, 0))
    ticks = list(np.arange(low, 1))
    points = [(np.log10(row["mean_probability"]), row) for row in table if row["mean_probability"] > 0]
    shown = [(x, np.log10(row["share_positive"]), row) for x, row in points if row["share_positive"] > 0]
    dots = "".join(
        f'<circle class="dot a" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="4.5">'
        f"<title>{row['rows']} rows: said {row['mean_probability']:.3%}, were {row['share_positive']:.3%}</title></circle>"
        for x, y, row in shown
    )
    none = "".join(
        f'<path class="cross" d="M{axes.x(x) - 4:.1f},{axes.y(low) - 4:.1f}l8,8m0,-8l-8,8">'
        f"<title>{row['rows']} rows: said {row['mean_probability']:.3%}, none was positive</title></path>"
        for x, row in points
        if row["share_positive"] == 0
    )
    xs, ys = [x for x, _, _ in shown], [y for _, y, _ in shown]
    line = f'<path class="line a thin" d="{axes.path(xs, ys)}"/>' if len(shown) > 1 else ""
    frame = axes.frame("probability that the model says", "share that were positive", ticks, ticks, "{}", "{}")
    for tick in ticks:
        frame = frame.replace(f">{tick}<", f">{10.0 ** tick:.6g}<")
    return svg(frame + f'<path class="chance" d="{axes.path([low, 0], [low, 0])}"/>' + line + dots + none, "calibration")


def scores_chart(label: np.ndarray, raw: np.ndarray) -> str:
    """Share of each class by log-odds, so that the rare class is seen."""
    low, high = np.quantile(raw, [0.0005, 0.9995])
    if high <= low:
        low, high = low - 1, high + 1
    edges = np.linspace(low, high, 31)
    shares = []
    for wanted in (0, 1):
        counts, _ = np.histogram(np.clip(raw[label == wanted], low, high), edges)
        shares.append(counts / max(1, counts.sum()))
    top = max(share.max() for share in shares) * 1.08
    axes = Axes((float(low), float(high)), (0, float(top)))
    steps = []
    for share, kind in zip(shares, ("a", "b")):
        xs, ys = np.repeat(edges, 2), np.concatenate([[0], np.repeat(share, 2), [0]])
        d = axes.path(xs, ys)
        steps.append(f'<path class="area {kind}" d="{d}Z"/><path class="line {kind} thin" d="{d}"/>')
    x_ticks = [tick for tick in range(int(np.ceil(low)), int(high) + 1) if (high - low) < 12 or tick % 2 == 0]
    frame = axes.frame("raw score (log-odds)", "share of the class", x_ticks, [0, top / 2, top], "{:g}", "{:.0%}")
    return svg(frame + "".join(steps), "scores of both classes")


def importance_chart(rows: list[dict], most: int = 15) -> str:
    rows = [row for row in rows if row["mean_abs_contribution"] > 0][:most]
    width, step, left = 960, 24, 300
    top = max((row["mean_abs_contribution"] for row in rows), default=1.0)
    bars = []
    for index, row in enumerate(rows):
        y = 8 + index * step
        length = row["mean_abs_contribution"] / top * (width - left - 80)
        name = row["feature"] if len(row["feature"]) <= 42 else row["feature"][:41] + "…"
        bars.append(
            f'<text x="{left - 10}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="bar" x="{left}" y="{y + 2}" width="{length:.1f}" height="{step - 9}" rx="3"/>'
            f'<text x="{left + length + 8:.1f}" y="{y + 13}">{row["mean_abs_contribution"]:.3f}</text>'
        )
    return svg("".join(bars), "importance of features", width, 16 + step * max(1, len(rows)))


def slices_chart(slices: dict[str, dict]) -> str:
    """When the rows of each slice happened; what is white between them is the gap."""
    width, height = 960, 62
    start = min(each["from_ms"] for each in slices.values())
    end = max(each["to_ms"] for each in slices.values())
    span = max(1, end - start)
    parts = []
    for name, each in slices.items():
        x = 4 + (each["from_ms"] - start) / span * (width - 8)
        length = max(3.0, (each["to_ms"] - each["from_ms"]) / span * (width - 8))
        parts.append(
            f'<rect class="slice {name}" x="{x:.1f}" y="8" width="{length:.1f}" height="24" rx="4">'
            f"<title>{name}: {each['rows']} rows, {each['positives']} positive</title></rect>"
            f'<text x="{x + length / 2:.1f}" y="50" text-anchor="middle">{name}</text>'
        )
    return svg("".join(parts), "the slices in time", width, height)
