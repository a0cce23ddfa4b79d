"""Worker processes: what they answer, that they take turns, and what is said when one fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irkit
from irkit.bench import latency, process
from irkit.bench.latency import Settings, arrays_file, artifact_rows, measure
from irkit.bench.process import Job, Turn, Worker, interleave, workers
from irkit.bench.report import FIELDS
from irkit.errors import BenchError, InputError

ENGINES = """
import os, sys
import numpy as np

class Doubles:
    version = "3"
    def load(self, path, threads):
        print("engines talk", path)
        return lambda x: x * np.float32(threads)
    def prepare(self, x):
        return [x[0] + 1]

class Fails(Doubles):
    def load(self, path, threads):
        raise RuntimeError("no such format")

class Dies(Doubles):
    def load(self, path, threads):
        calls = []
        def run(x):
            calls.append(1)
            if len(calls) > 1:
                sys.stderr.write("out of luck\\n")
                sys.stderr.flush()
                os._exit(7)
            return x
        return run

class Hangs(Doubles):
    def load(self, path, threads):
        import time
        time.sleep(60)
"""


@pytest.fixture
def job(tmp_path: Path) -> Any:
    """Makes jobs of the engines above."""
    (tmp_path / "engines.py").write_text(ENGINES)
    np.savez(tmp_path / "x.npz", np.float32([1, 2]))

    def make(engine: str, **more: Any) -> Job:
        loaders = tmp_path / "engines.py"
        return Job(engine, Path("model.x"), 2, tmp_path / "x.npz", engine=engine, loaders=loaders, **more)

    return make


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_worker_answers_and_stands_still_between_turns(job: Any, tmp_path: Path) -> None:
    with workers([job("Doubles", outputs=tmp_path / "y.npz")]) as (w,):
        about = w.about
        assert about["version"] == "3" and about["peak_bytes"] >= about["base_bytes"] > 1e6
        assert all(about[k] >= 0 for k in ("import_ms", "load_ms", "first_ms"))
        with np.load(tmp_path / "y.npz") as y:
            np.testing.assert_array_equal(y["arr_0"], np.float32([4, 6]))  # prepared, then run with two threads
        for _ in range(2):
            assert state(about["pid"]) == "T"
            turn = w.turn(0.01)
            assert turn.ns and min(turn.ns) > 0 and turn.batch >= 1 and turn.others >= 0
        assert state(about["pid"]) == "T"
    assert not Path(f"/proc/{about['pid']}").exists()


@pytest.mark.parametrize(
    ("engine", "message"),
    [("Fails", "Fails: the process ended with status 1: RuntimeError: no such format"),
     ("Missing", "Missing: the process ended with status 1: AttributeError.*Missing")],
)  # fmt: skip
def test_an_engine_that_fails_is_named(job: Any, engine: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        Worker(job(engine))


def test_an_engine_that_dies_later_is_named(job: Any) -> None:
    with workers([job("Dies")]) as (w,), pytest.raises(BenchError, match=r"Dies: the process ended.*7: out of luck"):
        w.turn(0.01)


def test_an_engine_that_hangs_is_given_up(job: Any) -> None:
    with pytest.raises(BenchError, match="Hangs: the process has not answered for 1 s"):
        Worker(job("Hangs"), timeout=1)


def test_no_such_interpreter(job: Any) -> None:
    with pytest.raises(BenchError, match="Doubles: /nowhere/python does not start"):
        Worker(job("Doubles", python=Path("/nowhere/python")))


def test_a_stopped_worker_ends_with_its_parent(job: Any, tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from irkit.bench.process import Job, Worker; "
        "w = Worker(Job('d', pathlib.Path('m'), 1, pathlib.Path(sys.argv[1]), engine='Doubles', "
        "loaders=pathlib.Path(sys.argv[2]))); print(w.about['pid'], flush=True); os.kill(os.getpid(), 9)"
    )
    made = job("Doubles")
    command = [sys.executable, "-c", code, str(made.inputs), str(made.loaders)]
    env = {**os.environ, "PYTHONPATH": str(Path(irkit.__file__).parents[1])}
    pid = int(subprocess.run(command, capture_output=True, text=True, env=env).stdout)
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and state(pid) != "Z":
        assert time.monotonic() < end, "the worker outlives its parent"
        time.sleep(0.01)


def test_turns_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def turn(self, seconds: float) -> Turn:
            order.append(self.name)
            return Turn([seconds], 1, 0.0)

    team: Any = [Fake("a"), Fake("b")]
    turns = interleave(team, 3, 0.5)
    assert order == ["a", "b", "b", "a", "a", "b"] and [len(t) for t in turns] == [3, 3]
    order.clear()
    interleave(team, 1, 0.5, first=1)
    assert order == ["b", "a"]


def test_rounds_are_shared_by_starts() -> None:
    assert Settings(rounds=9, starts=3).per_start() == [3, 3, 3]
    assert Settings(rounds=8, starts=3).per_start() == [3, 3, 2]
    assert Settings(rounds=1, starts=3).per_start() == [1, 1, 1]


def test_measure_collects_all_starts(job: Any) -> None:
    (told, turns), (_, others) = measure([job("Doubles"), job("Doubles")], Settings(rounds=4, seconds=0.002, starts=2))
    assert len({a["pid"] for a in told}) == 2 and len(turns) == len(others) == 4


def test_rows_of_an_artifact(artifact: Path) -> None:
    rows = artifact_rows(artifact, None, [1, 2], Settings(rounds=2, seconds=0.005, starts=1))
    assert [r["threads"] for r in rows] == [1, 2]
    exe = irkit.load(artifact)
    for r in rows:
        assert set(FIELDS["latency"]) <= set(r)
        assert r["model"] == "net.int8" and r["isa"] == exe.isa and len(r["turns_ms"]) == 2
        assert 0 < r["min_ms"] <= r["p10_ms"] <= r["median_ms"] <= r["p90_ms"]
        assert r["file_bytes"] == artifact.stat().st_size and r["weight_bytes"] == exe.plan.weight_bytes
        assert r["peak_bytes"] >= r["base_bytes"] > 0
    with pytest.raises(InputError, match="expected shape"):
        artifact_rows(artifact, [np.zeros((1, 3, 8, 9), np.float32)], [1], Settings())


def test_the_worker_runs_what_the_caller_would(artifact: Path, tmp_path: Path) -> None:
    """The same irkit, on the same inputs, on the CPUs asked for."""
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32)
    cpus = sorted(os.sched_getaffinity(0))[:1]
    with arrays_file([x]) as inputs:
        job = Job("net", artifact, 1, inputs, env=latency.irkit_environment(), cpus=cpus, outputs=tmp_path / "y.npz")
        with workers([job]) as (w,):
            pid = w.about["pid"]
            assert w.about["isa"] == irkit.load(artifact).isa and os.sched_getaffinity(pid) == set(cpus)
        with np.load(tmp_path / "y.npz") as y:
            np.testing.assert_array_equal(y["arr_0"], irkit.load(artifact)(x))


def test_pinning_needs_cpus() -> None:
    n = len(os.sched_getaffinity(0))
    assert len(Settings(pin=True).cpus(n)) == n and Settings().cpus(n) == []
    with pytest.raises(BenchError, match=f"can't pin {n + 1} threads to {n}"):
        Settings(pin=True).cpus(n + 1)


def test_the_script_imports_little() -> None:
    """Engines have environments without irkit."""
    text = Path(process.SCRIPT).read_text()
    tops = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert tops and not any("irkit" in line or "numpy" in line for line in tops)
