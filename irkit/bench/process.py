"""Worker processes that take turns: each holds one loaded model, and only the one whose turn it is runs at all."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irkit.bench.machine import busy_seconds
from irkit.bench.stats import Summary
from irkit.errors import BenchError

SCRIPT = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Job:
    """What a worker is to hold: a model, in an engine, with that many threads.

    label: how messages name it. inputs: .npz of a call's arrays. engine: function of the file ``loaders``; None is
    irkit. python: the interpreter. env: added to the environment. cpus: the CPUs to stay on. outputs: .npz to write.
    """

    label: str
    model: Path
    threads: int
    inputs: Path
    engine: str | None = None
    loaders: Path | None = None
    python: Path = Path(sys.executable)
    env: Mapping[str, str] = field(default_factory=dict)
    cpus: Sequence[int] = ()
    outputs: Path | None = None


@dataclass(frozen=True)
class Turn:
    """One turn: ns a call of each sample; ``others``: CPUs that other processes kept busy meanwhile."""

    ns: list[float]
    batch: int
    others: float

    @property
    def median(self) -> float:
        """Nanoseconds of the turn's middle sample."""
        return Summary.of(self.ns).median


class Worker:
    """A process that loads its model when it is made; stopped between turns. BenchError when it fails.

    A stopped process does not spin, sleep or wake: what engines do after a call can't reach into another's turn.
    """

    def __init__(self, job: Job, timeout: float = 300) -> None:
        self.job, self.timeout = job, timeout
        task = {
            "engine": job.engine, "loaders": str(job.loaders), "model": str(job.model), "threads": job.threads,
            "inputs": str(job.inputs), "cpus": list(job.cpus), "outputs": str(job.outputs) if job.outputs else None,
        }  # fmt: skip
        env = {
            **os.environ, "OMP_NUM_THREADS": str(job.threads), "MKL_NUM_THREADS": str(job.threads),
            "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **job.env,
        }  # fmt: skip
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process)
        self._buffer = b""
        command = [str(job.python), str(SCRIPT), json.dumps(task)]
        try:
            self._process = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
            )
        except OSError as e:
            self._log.close()
            raise BenchError(f"{job.label}: {job.python} does not start: {e.strerror or e}") from None
        try:
            self.about: dict[str, Any] = self._answer()
            self._stop()
        except BaseException:
            self.close()
            raise

    def turn(self, seconds: float) -> Turn:
        """Time calls for that long."""
        self._process.send_signal(signal.SIGCONT)
        before, start = busy_seconds(), time.monotonic()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"seconds": seconds}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("ended") from None
        got = self._answer()
        wall = time.monotonic() - start
        self._stop()
        others = 0.0 if before is None else ((busy_seconds() or 0.0) - before) / wall - got["cpu"]
        return Turn(got["ns"], got["batch"], max(0.0, others))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()
        self._log.close()

    def _stop(self) -> None:
        """Stop it, and wait until it stands."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _answer(self) -> Any:
        """The next line of the process."""
        assert self._process.stdout is not None
        fd, end = self._process.stdout.fileno(), time.monotonic() + self.timeout
        while b"\n" not in self._buffer:
            if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
                raise self._failure(f"has not answered for {self.timeout:.0f} s")
            data = os.read(fd, 1 << 16)
            if not data:
                raise self._failure(f"ended with status {self._process.wait()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _failure(self, what: str) -> BenchError:
        self._log.seek(0)
        said = self._log.read()[-4000:].decode(errors="replace").strip().splitlines()
        return BenchError(f"{self.job.label}: the process {what}{': ' + said[-1] if said else ''}")


@contextlib.contextmanager
def workers(jobs: Sequence[Job]) -> Iterator[list[Worker]]:
    """A worker for each job, one started after the other; all end with the block."""
    made: list[Worker] = []
    try:
        for job in jobs:
            made.append(Worker(job))  # noqa: PERF401  (those made must be closed when one fails)
        yield made
    finally:
        for w in made:
            w.close()


def interleave(team: Sequence[Worker], rounds: int, seconds: float, first: int = 0) -> list[list[Turn]]:
    """The turns of each worker: in every round each has one, and who begins changes from round to round."""
    turns: list[list[Turn]] = [[] for _ in team]
    for r in range(rounds):
        for k in range(len(team)):
            i = (first + r + k) % len(team)
            turns[i].append(team[i].turn(seconds))
    return turns
