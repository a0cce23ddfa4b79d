"""Pictures of results: bars of latencies, kernels and ratios, and the roofline of a profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irkit.bench.peaks import Peaks
from irkit.bench.report import Report
from irkit.errors import BenchError

GROUPS = {"latency": "isa", "kernels": "isa", "compare": "verdict", "peers": "engine"}  # what has a colour of its own
FORMATS = (".svg", ".png")


def check_target(path: Path) -> None:
    """BenchError when the file is no picture, or matplotlib is not installed: said before measuring."""
    if path.suffix.lower() not in FORMATS:
        raise BenchError(f"{path}: expected a name that ends in {' or '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BenchError("pictures need matplotlib: pip install 'irkit-compiler[bench]'") from None


def draw(report: Report, path: Path) -> None:
    """Draw a report of any kind: a profile as a roofline with its steps, all others as bars."""
    check_target(path)
    if not report.rows:
        raise BenchError(f"{path}: the results have no rows to draw")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    if report.kind == "profile":
        _roofline(figure, report)
    else:
        _bars(figure, report)
    figure.suptitle(_title(report), fontsize=9)
    figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _title(report: Report) -> str:
    b = report.build
    return f"{report.machine['cpu']}, irkit {b['irkit']} {b['commit']}, {report.date[:10]}"


def _bars(figure: Any, report: Report) -> None:
    """A bar per row, with the 10th and 90th percentile (ratios: their interval)."""
    labels, middle, low, high = [], [], [], []
    for r in report.rows:
        name, value, least, most = _bar(report.kind, r)
        labels.append(name)
        middle.append(value)
        low.append(max(0.0, value - least))
        high.append(max(0.0, most - value))
    figure.set_size_inches(10, max(3.0, 1.2 + 0.22 * len(labels)))
    axes = figure.add_subplot()
    groups = [str(r[GROUPS[report.kind]]) for r in report.rows]
    colors = {g: f"C{i % 10}" for i, g in enumerate(dict.fromkeys(groups))}
    for group, color in colors.items():
        at = [i for i, g in enumerate(groups) if g == group]
        spread = [[low[i] for i in at], [high[i] for i in at]]
        look = {"ecolor": "#333", "capsize": 2}
        axes.barh(at, [middle[i] for i in at], xerr=spread, color=color, error_kw=look, label=group)
    if len(colors) > 1:
        axes.legend(fontsize=7)
    axes.margins(y=0.01)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel({"compare": "ratio of times, B / A", "kernels": "microseconds"}.get(report.kind, "milliseconds"))
    if report.kind == "compare":
        axes.axvline(1.0, color="#a33", linewidth=1)
    elif max(middle) > 20 * min(middle) > 0:
        axes.set_xscale("log")
    axes.grid(axis="x", alpha=0.3)


def _bar(kind: str, r: dict[str, Any]) -> tuple[str, float, float, float]:
    """Label, middle, low and high of a row."""
    if kind == "compare":
        return f"{r['model']} ({r['threads']})", r["ratio"], r["low"], r["high"]
    if kind == "kernels":
        return f"{r['kernel']} {r['shape']}", r["median_ns"] / 1e3, r["ns"] / 1e3, r["p90_ns"] / 1e3
    label = f"{r['model']} {r['engine']} {r['precision']} ({r['threads']})" if kind == "peers" else ""
    return label or f"{r['model']} ({r['threads']})", r["median_ms"], r["p10_ms"], r["p90_ms"]


def _roofline(figure: Any, report: Report) -> None:
    """Operations a second over operations a byte, one panel per model and thread count, under the machine's limits."""
    limits = report.settings.get("peaks", {})
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for r in report.rows:
        if r["macs"]:
            groups.setdefault((r["model"], r["threads"]), []).append(r)
    if not groups:
        raise BenchError("no step of the profile multiplies: nothing to draw")
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    figure.set_size_inches(7.5 * columns, 5 * lines)
    for i, ((model, threads), steps) in enumerate(groups.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        if str(threads) not in limits:
            raise BenchError(f"the results lack the machine's limits for {threads} thread(s) (settings, 'peaks')")
        _panel(axes, steps, Peaks(**limits[str(threads)]))
        axes.set_title(f"{model}, {threads} thread(s)", fontsize=9)


def _panel(axes: Any, steps: Sequence[dict[str, Any]], limits: Peaks) -> None:
    intensity = [2 * s["macs"] / max(1, s["bytes"]) for s in steps]
    left, right = min(*intensity, 1.0) / 2, max(*intensity, 100.0) * 2
    used = sorted(
        {s["limit"] for s in steps if s["limit"] in limits.gops} or {max(limits.gops, key=lambda n: limits.gops[n])}
    )
    top = max(limits.gops[n] for n in used)
    for name in used:
        axes.plot([left, right], [limits.gops[name]] * 2, color="#a33", linewidth=1)
        axes.annotate(name, (right, limits.gops[name]), fontsize=7, ha="right", va="bottom", color="#a33")
    for level, gbs in limits.gbs.items():
        stop = min(right, top / gbs)
        axes.plot([left, stop], [left * gbs, stop * gbs], color="#777", linewidth=1)
        axes.annotate(level, (left, left * gbs), fontsize=7, va="bottom", color="#555")
    total = sum(s["ns"] for s in steps)
    families = sorted({s["kernel"] for s in steps})
    for k, kernel in enumerate(families):
        mine = [(x, s) for x, s in zip(intensity, steps, strict=True) if s["kernel"] == kernel]
        axes.scatter(
            [x for x, _ in mine], [2 * s["macs"] / max(1.0, s["ns"]) for _, s in mine],
            s=[12 + 600 * s["ns"] / total for _, s in mine], alpha=0.6, color=f"C{k % 10}", label=kernel,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte of operands", fontsize=8)
    axes.set_ylabel("GOP/s (area: share of the time)", fontsize=8)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, loc="lower right")
