"""``irkit bench``: how fast artifacts are here, what they take, and what to make faster next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from irkit.cli import io as cli_io
from irkit.cli.commands import app
from irkit.cli.show import err, out, progress, reports_errors

Threads = Annotated[str, typer.Option("--threads", help="Thread counts, as 1,2; default: 1 and all CPUs.")]
NOISY = 0.1  # CPUs kept busy by others, from which on a run says so


@app.command("bench")
@reports_errors
def bench_command(
    artifacts: Annotated[list[Path] | None, typer.Argument(help=".irk files, or folders of them.")] = None,
    inputs: Annotated[
        list[Path] | None, typer.Option("--input", "-i", help=".npy per input, or one .npz; default: made up.")
    ] = None,
    threads: Threads = "",
    profile: Annotated[bool, typer.Option("--profile", help="Steps against this machine's limits.")] = False,
    top: Annotated[int, typer.Option("--top", min=0, help="With --profile: this many steps; 0 is all.")] = 15,
    peaks: Annotated[bool, typer.Option("--peaks", help="Measure this machine's limits again, and show them.")] = False,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of each thread count.")] = 9,
    seconds: Annotated[float, typer.Option("--seconds", min=0.001, help="Length of a turn.")] = 0.2,
    starts: Annotated[int, typer.Option("--starts", min=1, help="Processes that load the model anew.")] = 3,
    pin: Annotated[bool, typer.Option("--pin", help="Keep to the first CPUs, one a thread.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw them: .svg or .png.")] = None,
) -> None:
    """Measure artifacts on this machine: latency with its spread, memory, load time; with --profile, every step.

    Latency is taken by processes of their own, one after the other in turns; IRKIT_ISA caps the instruction set.
    Times vary on a busy machine: what other processes took meanwhile is told.
    """
    from irkit.bench.latency import Settings, find_artifacts
    from irkit.bench.peaks import peaks as limits
    from irkit.bench.report import Report

    counts = thread_counts(threads)
    if peaks:
        show_peaks(counts)
        if not artifacts:
            return
    files = find_artifacts(artifacts or [])
    if plot is not None:
        from irkit.bench.plots import check_target

        check_target(plot)
    settings = Settings(rounds, seconds, starts, pin)
    with progress() as bar:
        task = bar.add_task("starting", total=len(files))
        rows: list[dict[str, Any]] = []
        for path in files:
            arrays = arrays_of(path, inputs)
            if profile:
                bar.update(task, description=f"{path.name}: steps")
                rows += profile_rows(path, arrays, counts, seconds, settings)
            else:
                rows += _latency_rows(path, arrays, counts, settings, lambda text: bar.update(task, description=text))
            bar.advance(task)
    how: dict[str, Any] = {**vars(settings), "threads": counts}
    if profile:
        how["peaks"] = {str(n): vars(limits(n)) for n in counts}
    report = Report("profile" if profile else "latency", rows, how)
    show_machine(report)
    if profile:
        show_profile(rows, top)
    else:
        show_latency(rows)
    if json_file is not None:
        report.write(json_file)
        out.print(f"wrote {escape(str(json_file))}")
    if plot is not None:
        from irkit.bench.plots import draw

        draw(report, plot)
        out.print(f"wrote {escape(str(plot))}")


def thread_counts(text: str) -> list[int]:
    """``1,2`` as numbers; by default 1 and all CPUs of this process."""
    from irkit.backend.executable import check_threads, default_threads

    if not text:
        return sorted({1, default_threads()})
    return sorted({check_threads(int(p) if p.strip().isdigit() else p, "--threads") for p in text.split(",")})


def arrays_of(path: Path, files: Sequence[Path] | None) -> Any:
    """Inputs of an artifact from files; None without any: they are made up then."""
    if not files:
        return None
    exe = cli_io.load_artifact(path, 1)
    return cli_io.read_inputs(files, exe.signature.inputs, cli_io.Pixels())


def _latency_rows(path: Path, arrays: Any, counts: Sequence[int], settings: Any, tell: Any) -> list[dict[str, Any]]:
    from irkit.bench.latency import artifact_rows

    return artifact_rows(path, arrays, counts, settings, tell)


def profile_rows(path: Path, arrays: Any, counts: Sequence[int], seconds: float, settings: Any) -> list[dict[str, Any]]:
    """Rows of kind "profile": the steps of an artifact, those with most to gain first, for each thread count."""
    import os
    import time

    from irkit.backend.artifact import sample_input
    from irkit.bench.peaks import peaks
    from irkit.bench.roofline import by_saving, profile_steps

    rows = []
    for n in counts:
        before = os.sched_getaffinity(0)
        if pinned := settings.cpus(n):
            os.sched_setaffinity(0, pinned)
        try:
            limits = peaks(n)
            exe = cli_io.load_artifact(path, n)
            x = [sample_input(t, i) for i, (_, t) in enumerate(exe.signature.inputs)] if arrays is None else arrays
            start, calls = time.perf_counter(), 0
            while calls < 3 or time.perf_counter() - start < seconds / 4:  # warm, and how long a call is
                exe.run_flat(x)
                calls += 1
            each = (time.perf_counter() - start) / calls
            repeats = min(1000, max(10, round(settings.rounds * seconds / each)))
            steps = profile_steps(exe, x, limits, repeats)
        finally:
            os.sched_setaffinity(0, before)
        head = {"model": path.name.removesuffix(".irk"), "threads": n, "isa": exe.isa}
        rows += [{**head, **vars(s), "saved_ns": s.saved_ns} for s in by_saving(steps)]
    return rows


# ---- tables
def show_machine(report: Any) -> None:
    """What was measured on, and what else it was doing."""
    m, b = report.machine, report.build
    commit = f" {b['commit']}" if b["commit"] else ""
    out.print(escape(f"{m['cpu']}, {len(m['affinity'])} CPU(s), {m['system']}; irkit {b['irkit']}{commit}, {b['isa']}"))
    warn_of_others([r["others"] for r in report.rows if "others" in r], "meanwhile")
    found = [p["others"] for p in report.settings.get("peaks", {}).values()]
    warn_of_others(found, "while this machine's limits were measured; measure them again with --peaks")


def warn_of_others(busy: Sequence[float], when: str) -> None:
    """Say so when other processes took more than a little of the CPUs."""
    if max(busy, default=0.0) > NOISY:
        err.print(f"[yellow]warning:[/] other processes kept up to {max(busy):.1f} CPU(s) busy {when}")


def show_latency(rows: Sequence[dict[str, Any]]) -> None:
    """One line per artifact and thread count."""
    table = Table("model", "threads", "isa", title="latency of a call, ms", title_justify="left")
    for name in ("median", "p10", "p90", "min", "calls", "load", "first", "peak MB", "file MB"):
        table.add_column(name, justify="right")
    for r in rows:
        times = [f"{r[f'{n}_ms']:.4g}" for n in ("median", "p10", "p90", "min")]
        more = [f"{r['load_ms']:.1f}", f"{r['first_ms']:.2f}"]
        sizes = [f"{r['peak_bytes'] / 1e6:.1f}", f"{r['file_bytes'] / 1e6:.2f}"]
        table.add_row(escape(r["model"]), str(r["threads"]), r["isa"], *times, str(r["calls"]), *more, *sizes)
    out.print(table)
    base = max(r["base_bytes"] for r in rows) / 1e6
    out.print(f"peak MB: of the whole process, of which Python and its modules are {base:.1f}")


def show_profile(rows: Sequence[dict[str, Any]], top: int) -> None:
    """One table per artifact and thread count; the step with most to gain first."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for r in rows:
        groups.setdefault((r["model"], r["threads"]), []).append(r)
    for (model, n), steps in groups.items():
        total, saved = sum(s["ns"] for s in steps), sum(s["saved_ns"] for s in steps)
        title = f"{escape(model)}, {n} thread(s), {steps[0]['isa']}: most to gain first"
        table = Table("step", "layer", "kernel", title=title, title_justify="left")
        for name in ("us", "share", "GOP/s", "GB/s", "bound us", "limit", "of bound", "gain us"):
            table.add_column(name, justify="right")
        for s in steps[: top or None]:
            bound, ns = max(s["compute_ns"], s["memory_ns"]), s["ns"]
            gops = f"{2 * s['macs'] / ns:.1f}" if s["macs"] and ns else ""
            cells = [
                f"{ns / 1e3:.1f}",
                f"{ns / total:.1%}" if total else "",
                gops,
                f"{s['bytes'] / ns:.1f}" if ns else "",
            ]
            of = f"{bound / ns:.0%}" if ns else ""
            table.add_row(
                str(s["step"]), escape(s["layer"]), escape(s["kernel"]), *cells, f"{bound / 1e3:.1f}", s["limit"], of,
                f"{s['saved_ns'] / 1e3:.1f}",
            )  # fmt: skip
        out.print(table)
        show_kernels(steps)
        macs = sum(s["macs"] for s in steps)
        if total:
            out.print(
                f"all {len(steps)} steps: {total / 1e3:.1f} us, {2 * macs / total:.1f} GOP/s; "
                f"at their bounds {(total - saved) / 1e3:.1f} us"
            )


def show_kernels(steps: Sequence[dict[str, Any]]) -> None:
    """The steps of one model by kernel, the slowest first; "of peak" is what their arithmetic alone would take."""
    table = Table("kernel")
    for name in ("steps", "us", "share", "GOP/s", "of peak", "gain us"):
        table.add_column(name, justify="right")
    total = sum(s["ns"] for s in steps)
    groups: dict[str, list[dict[str, Any]]] = {}
    for s in steps:
        groups.setdefault(s["kernel"], []).append(s)
    for kernel, mine in sorted(groups.items(), key=lambda g: -sum(s["ns"] for s in g[1])):
        ns, macs, compute, saved = (sum(s[k] for s in mine) for k in ("ns", "macs", "compute_ns", "saved_ns"))
        rate = [f"{2 * macs / ns:.1f}", f"{compute / ns:.0%}" if compute else ""] if macs and ns else ["", ""]
        share = f"{ns / total:.1%}" if total else ""
        table.add_row(escape(kernel), str(len(mine)), f"{ns / 1e3:.1f}", share, *rate, f"{saved / 1e3:.1f}")
    out.print(table)


def show_peaks(counts: Sequence[int]) -> None:
    """Measure this machine's limits again, and print them."""
    from irkit.bench.peaks import peaks

    with progress() as bar:
        task = bar.add_task("measuring this machine's limits", total=len(counts))
        found = []
        for i, n in enumerate(counts):
            found.append(peaks(n, again=True))
            bar.update(task, completed=i + 1)
    table = Table(
        "limit", *(f"{p.threads} thread(s)" for p in found), title="limits of this machine", title_justify="left"
    )
    for name in found[0].gops:
        table.add_row(f"{name}, GOP/s", *(f"{p.gops[name]:.0f}" for p in found))
    for level in found[0].gbs:
        table.add_row(f"reads from {level}, GB/s", *(f"{p.gbs[level]:.1f}" for p in found))
    out.print(table)
    warn_of_others([p.others for p in found], "meanwhile")
