"""Is build B slower or faster than build A? Both run in turns, so that whatever else the machine does hits both.

    python -m bench.compare A B model.irk other.irk --threads 1,2     two builds, the same artifacts
    python -m bench.compare HEAD~3 . mobilenet_v2.int8 --threads 1    a commit and this checkout, each with its compiler
    python -m bench.compare . . net.irk --isa-a avx512 --isa-b avx2   one build, two instruction sets

A build is a checkout with its native module built, an environment or folder that irkit is installed in, or a commit of
this repository, which is built in build/compare/. A model is an artifact, or NAME.int8 or NAME.fp32 of a network of
bench/zoo.py, which each build compiles itself. Each pair of turns gives one ratio B / A; printed are their median and
its confidence interval (order statistics, at least 95 % from six rounds on). "slower" means that all of the interval is
above 1 + tolerance; then the exit status is 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

import typer  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from irkit.bench.latency import Settings, arrays_file, measure  # noqa: E402
from irkit.bench.machine import commit_of  # noqa: E402
from irkit.bench.process import Job  # noqa: E402
from irkit.bench.report import Report  # noqa: E402
from irkit.bench.stats import Summary, geometric_mean, ratio_interval  # noqa: E402
from irkit.errors import BenchError, IrkitError  # noqa: E402

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
out = Console(width=None if sys.stdout.isatty() else 140)
VERDICTS = ("slower", "faster", "same")


@dataclass(frozen=True)
class Build:
    """Where an irkit is: ``path`` goes before all others on the module path."""

    name: str
    python: Path
    path: Path | None
    commit: str
    isa: str = ""

    @property
    def env(self) -> dict[str, str]:
        """What a process of this build needs."""
        paths = [str(self.path)] if self.path else []
        return {"PYTHONPATH": os.pathsep.join(paths), **({"IRKIT_ISA": self.isa} if self.isa else {})}


def find_build(text: str, isa: str = "", folder: Path = ROOT / "build/compare") -> Build:
    """The build that a word of the command line names; BenchError when it is none of the three kinds."""
    path = Path(text)
    if (path / "bin/python").exists():
        return Build(text, path.absolute() / "bin/python", None, "", isa)
    if (path / "irkit/__init__.py").exists():
        path = path.resolve()
        if not list((path / "irkit").glob("_native*.so")):
            raise BenchError(f"{path}: its native module is not built (python setup.py build_ext --inplace)")
        return Build(text, Path(sys.executable), path, commit_of(path / "irkit"), isa)
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{text}^{{commit}}"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"{text!r} is no checkout, no environment with bin/python and no commit of {ROOT}")
    sha = done.stdout.strip()
    tree = folder / sha[:12]
    if not list((tree / "irkit").glob("_native*.so")):
        _build_commit(sha, tree)
    return Build(text, Path(sys.executable), tree, sha[:12], isa)


def _build_commit(sha: str, tree: Path) -> None:
    """The commit's files, and its native parts built in place."""
    tree.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", sha], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(tree)], check=True, input=archive)
    env = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"commit {sha[:12]} does not build in {tree}:\n{(done.stdout + done.stderr)[-2000:]}")


def artifact_of(model: str, build: Build, folder: Path = ROOT / "build/compare/models") -> Path:
    """The artifact to run in a build: the file named, or the network as that build's compiler makes it."""
    if model.endswith(".irk"):
        if not Path(model).is_file():
            raise BenchError(f"artifact {model} does not exist")
        return Path(model)
    name, _, precision = model.rpartition(".")
    code = (  # irkit of that build, networks of this checkout
        "import sys, irkit; sys.path.insert(0, sys.argv[1]); from bench import zoo; "
        "zoo.compiled(sys.argv[2], 'native-' + sys.argv[3]).save(sys.argv[4])"
    )
    path = folder.absolute() / (build.commit or "installed") / f"{model}.irk"
    if path.exists() and not build.commit.endswith("+") and build.commit:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [str(build.python), "-P", "-c", code, str(ROOT), name, precision, str(path)], capture_output=True, text=True,
        env={**os.environ, **build.env},
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchError(f"{model}: build {build.name} does not make this network: {last}")
    return path


def verdict(a: Sequence[float], b: Sequence[float], tolerance: float) -> dict[str, Any]:
    """Fields of a row: medians, ratio B / A with its interval, and what that says. Times of turns, paired."""
    r = ratio_interval(b, a)
    text = "slower" if r.low > 1 + tolerance else "faster" if r.high < 1 - tolerance else "same"
    return {
        "a_ms": Summary.of(a).median, "b_ms": Summary.of(b).median, "a_min_ms": min(a), "b_min_ms": min(b),
        "ratio": r.median, "low": r.low, "high": r.high, "confidence": r.confidence, "verdict": text,
    }  # fmt: skip


def compare(
    a: Build, b: Build, models: Sequence[str], threads: Sequence[int], settings: Settings, tolerance: float
) -> list[dict[str, Any]]:
    """Rows of kind "compare", one per model and thread count."""
    import irkit
    from irkit.backend.artifact import sample_input

    rows = []
    for model in models:
        files = [artifact_of(model, build) for build in (a, b)]
        signature = irkit.load(files[0], threads=1).signature.inputs
        with arrays_file([sample_input(t, i) for i, (_, t) in enumerate(signature)]) as inputs:
            for n in threads:
                jobs = [
                    Job(
                        f"{label} ({build.name}), {model}, {n} thread(s)", file, n, inputs, python=build.python,
                        env=build.env, cpus=settings.cpus(n),
                    )
                    for label, build, file in zip("AB", (a, b), files, strict=True)
                ]  # fmt: skip
                (told_a, turns_a), (told_b, turns_b) = measure(jobs, settings)
                times = ([t.median * 1e-6 for t in turns] for turns in (turns_a, turns_b))
                rows.append(
                    {
                        "model": model.removesuffix(".irk").rsplit("/", 1)[-1], "threads": n,
                        "isa_a": told_a[0]["isa"], "isa_b": told_b[0]["isa"], **verdict(*times, tolerance),
                        "same_outputs": told_a[0]["outputs"] == told_b[0]["outputs"],
                        "others": round(Summary.of([t.others for t in turns_a + turns_b]).median, 2),
                    }
                )  # fmt: skip
    return rows


def show(rows: Sequence[dict[str, Any]], title: str) -> None:
    """The table, and the mean ratio."""
    table = Table("model", "threads", title=title, title_justify="left")
    for name in ("A ms", "B ms", "least A", "least B", "B / A", "interval", "", "outputs"):
        table.add_column(name, justify="right" if name else "left")
    for r in rows:
        times = [f"{r[k]:.4g}" for k in ("a_ms", "b_ms", "a_min_ms", "b_min_ms")]
        ratio = [f"{r['ratio']:.3f}", f"{r['low']:.3f} .. {r['high']:.3f}", r["verdict"]]
        table.add_row(r["model"], str(r["threads"]), *times, *ratio, "equal" if r["same_outputs"] else "differ")
    out.print(table)
    mean, least = geometric_mean([r["ratio"] for r in rows]), min(r["confidence"] for r in rows)
    out.print(f"geometric mean of B / A: {mean:.3f}; intervals hold the median with {least:.0%} or more")
    if (most := max(r["others"] for r in rows)) > 0.1:
        out.print(f"other processes kept up to {most:.1f} CPU(s) busy meanwhile")


@app.command(help=__doc__)
def main(
    a: Annotated[str, typer.Argument(help="The build to compare with.")],
    b: Annotated[str, typer.Argument(help="The build in question.")],
    models: Annotated[list[str], typer.Argument(help="Artifacts, or networks as NAME.int8, NAME.fp32.")],
    threads: Annotated[str, typer.Option(help="Thread counts, as 1,2.")] = "1",
    rounds: Annotated[int, typer.Option(min=1, help="Pairs of turns.")] = 15,
    seconds: Annotated[float, typer.Option(min=0.001, help="Length of a turn.")] = 0.2,
    starts: Annotated[int, typer.Option(min=1, help="Pairs of processes, one after the other.")] = 3,
    tolerance: Annotated[float, typer.Option(min=0.0, help="What is no difference: 0.01 is 1 %.")] = 0.01,
    isa_a: Annotated[str, typer.Option(help="Cap of A's instruction set.")] = "",
    isa_b: Annotated[str, typer.Option(help="Cap of B's instruction set.")] = "",
    pin: Annotated[bool, typer.Option("--pin", help="Keep to the first CPUs, one a thread.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them: .svg or .png.")] = None,
) -> None:
    """Compare two builds."""
    from irkit.cli.bench import thread_counts

    builds = [find_build(a, isa_a), find_build(b, isa_b)]
    settings = Settings(rounds, seconds, starts, pin)
    rows = compare(*builds, models, thread_counts(threads), settings, tolerance)
    names = [f"{v.name}{f' {v.commit}' if v.commit else ''}{f' {v.isa}' if v.isa else ''}" for v in builds]
    report = Report("compare", rows, {**vars(settings), "tolerance": tolerance, "a": names[0], "b": names[1]})
    show(rows, f"A: {names[0]}; B: {names[1]}; {report.machine['cpu']}")
    if json_file:
        report.write(json_file)
    if plot:
        from irkit.bench.plots import draw

        draw(report, plot)
    if any(r["verdict"] == "slower" for r in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    try:
        app()
    except IrkitError as e:
        sys.exit(f"error: {e}")
