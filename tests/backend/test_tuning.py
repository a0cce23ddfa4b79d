"""Choices by measurement: kept per machine and plan, never needed, never trusted, never changing a bit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import irkit
from irkit import _native
from irkit.backend import choices, tuning
from irkit.cli import app
from irkit.errors import ArtifactError, InputError
from irkit.ir.types import Array

X = np.random.default_rng(0).standard_normal((1, 8, 12, 12), dtype=np.float32)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 1), nn.Flatten(), nn.Linear(4608, 5)
    )
    exe = irkit.compile(net.eval(), X, target="native-int8", calibration=[X + i for i in range(32)])
    return exe.save(tmp_path_factory.mktemp("tuning") / "net.irk")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("IRKIT_CACHE_DIR", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "choices"


def digest_of(artifact: Path) -> int:
    seen: list[int] = []
    _native.load(str(artifact), None, 1, lambda digest, _: seen.append(digest))
    return seen[0]


def keep(artifact: Path, threads: int, steps: list[Any]) -> Path:
    level = _native.effective_isa()
    digest = digest_of(artifact)
    path = choices.path_of(digest, level, threads)
    assert choices.write(path, digest, steps)
    return path


def levels_of(exe: Any) -> list[str]:
    return [k.rsplit(".", 1)[-1] for k in exe._native.kernels]


def test_kept_choices_are_used_and_change_no_bit(artifact: Path) -> None:
    plain = irkit.load(artifact, threads=2)
    n = len(plain.plan.rows)
    keep(artifact, 2, [("scalar", 2)] * n)
    tuned = irkit.load(artifact, threads=2)
    assert set(levels_of(tuned)) == {"scalar"} != set(levels_of(plain))
    assert max(tuned._native.step_threads) == 2 and max(plain._native.step_threads) == 1
    assert tuned(X).tobytes() == plain(X).tobytes()
    assert levels_of(irkit.load(artifact, threads=1)) == levels_of(plain), "kept for two threads"
    assert [r.threads for r in tuned.plan.rows] == tuned._native.step_threads


def damage(doc: dict[str, Any], what: str) -> Any:
    steps = doc["steps"]
    if what == "cut":
        return json.dumps(doc)[:-9]
    if what == "other CPU":
        doc["machine"] += ", another"
    elif what == "other version":
        doc["version"] += 1
    elif what == "other plan":
        doc["plan"] = "0" * 16
    elif what == "fewer steps":
        steps.pop()
    elif what == "no list":
        doc["steps"] = {"0": 1}
    elif what == "unknown level":
        steps[0][0] = "mmx"
    elif what == "too many threads":
        steps[0][1] = 3
    elif what == "negative threads":
        steps[0][1] = -1
    elif what == "no number":
        steps[0][1] = True
    elif what == "one more key":
        doc["more"] = 1
    elif what == "no object":
        return "[]"
    elif what == "deep":
        return "[" * 100_000
    elif what == "binary":
        return "\0\xff"
    return json.dumps(doc)


DAMAGES = (
    "cut,other CPU,other version,other plan,fewer steps,no list,unknown level,too many threads,negative threads,"
    "no number,one more key,no object,deep,binary"
)


@pytest.mark.parametrize("what", DAMAGES.split(","))
def test_a_damaged_file_is_as_good_as_none(artifact: Path, what: str) -> None:
    plain = irkit.load(artifact, threads=2)
    path = keep(artifact, 2, [("scalar", 2)] * len(plain.plan.rows))
    path.write_text(damage(json.loads(path.read_text()), what), encoding="latin-1")
    exe = irkit.load(artifact, threads=2)
    assert levels_of(exe) == levels_of(plain) and exe(X).tobytes() == plain(X).tobytes()


def test_a_folder_in_the_files_place(artifact: Path) -> None:
    plain = irkit.load(artifact, threads=2)
    path = keep(artifact, 2, [("scalar", 2)] * len(plain.plan.rows))
    path.unlink()
    path.mkdir()
    assert levels_of(irkit.load(artifact, threads=2)) == levels_of(plain)
    assert not choices.write(path, digest_of(artifact), [("scalar", 1)])
    assert list(path.parent.iterdir()) == [path], "no temporary file stays behind"


def fake_times(monkeypatch: pytest.MonkeyPatch, best: int = 1) -> None:
    """Measurements as they should be: variant ``best`` is twice as fast as the others, and so is the tuned call."""

    def measure(models: Any, arrays: list[Array], until: float) -> tuple[Array, int]:
        times = np.full((len(models), len(models[0].plan.rows)), 1000)
        times[best] = 500
        return times, tuning.MIN_ROUNDS

    monkeypatch.setattr(tuning, "_measure", measure)
    monkeypatch.setattr(tuning, "_calls", lambda *_: ([1000, 500], tuning.MIN_ROUNDS))


def test_what_is_faster_is_kept(artifact: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_times(monkeypatch)
    found = irkit.tune(artifact, [X], threads=2, seconds=60)
    assert found.path and found.path.parent == cache and (found.before_ns, found.after_ns) == (1000, 500)
    rows = irkit.load(artifact, threads=2).plan.rows
    assert len(found.changed) == len(rows) and {n for _, (_, n) in found.changed} == {1}
    assert [r.threads for r in rows] == [1] * len(rows)
    again = choices.kept(None, 2)
    assert again and again(digest_of(artifact), len(rows)) == [c for _, c in found.changed]


def test_what_is_not_faster_in_a_whole_call_is_not_kept(
    artifact: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_times(monkeypatch)
    monkeypatch.setattr(tuning, "_calls", lambda *_: ([1000, 990], tuning.MIN_ROUNDS))
    found = irkit.tune(artifact, threads=2, seconds=60)
    assert not found.changed and found.path is None and not cache.exists()


def test_no_place_to_keep_it(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_times(monkeypatch)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IRKIT_CACHE_DIR", str(tmp_path / "file"))  # no folder can be made in it, by root neither
    plain = irkit.load(artifact, threads=2)
    found = irkit.tune(artifact, [X], threads=2, seconds=60)
    assert found.path is None and found.changed
    assert found.model(X).tobytes() == plain(X).tobytes()


def test_time_limit(artifact: Path, cache: Path) -> None:
    found = irkit.tune(artifact, [X], threads=2, seconds=0)
    assert not found.changed and found.path is None and not cache.exists()
    for seconds in (-1, 3601, float("nan"), "2", True):
        with pytest.raises(InputError, match="seconds: expected a number from 0 to 3600"):
            irkit.tune(artifact, seconds=seconds)  # type: ignore[arg-type]


def test_measuring_stops_at_the_limit(artifact: Path) -> None:
    exe = irkit.load(artifact, threads=1)
    times, rounds = tuning._measure([exe, exe], [X], 0.0)
    assert rounds == 0 and times.shape[0] >= 1
    least, rounds = tuning._calls([exe, exe], [X], 0.0)
    assert rounds == 0 and len(least) == 2


def test_a_real_measurement_changes_no_bit(artifact: Path) -> None:
    plain = irkit.load(artifact, threads=2)
    found = irkit.tune(artifact, [X], threads=2, seconds=0.5)
    assert found.model(X).tobytes() == plain(X).tobytes() == irkit.load(artifact, threads=2)(X).tobytes()


def test_wrong_arguments(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected shape"):
        irkit.tune(artifact, [X[:, :, 1:]])
    with pytest.raises(InputError, match="threads"):
        irkit.tune(artifact, threads=0)
    with pytest.raises(ArtifactError):
        irkit.tune(tmp_path / "none.irk")


def test_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choices.folder() == Path(os.environ["IRKIT_CACHE_DIR"]) / "choices"
    monkeypatch.delenv("IRKIT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert choices.folder() == Path("/somewhere/irkit/choices")
    monkeypatch.setenv("HOME", "/home/me")
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert choices.folder() == Path("/home/me/.cache/irkit/choices")


def test_command(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["tune", str(artifact), "--seconds", "0"])
    assert done.exit_code == 0 and "nothing to change" in done.output
    fake_times(monkeypatch)
    done = CliRunner().invoke(app, ["tune", str(artifact), "--threads", "2"])
    assert done.exit_code == 0 and "1.0 us before, 0.5 us now" in done.output and "kept in" in done.output
