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


DAMAGES = {
    "cut": "line 1",
    "other CPU": "machine: expected",
    "other version": "version: expected 1, got 2",
    "other plan": "plan: expected",
    "fewer steps": "steps: expected a list of",
    "no list": "steps: expected a list of",
    "unknown level": r"steps\[0\]: expected .*, got \['mmx', 2\]",
    "too many threads": r"steps\[0\]: expected .*0 to 2 threads",
    "negative threads": r"steps\[0\]: expected",
    "no number": r"steps\[0\]: expected",
    "one more key": "expected an object of version, machine, plan and steps",
    "no object": "expected an object",
    "deep": "recursion",
    "binary": "",
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_file_is_as_good_as_none_and_told_once(artifact: Path, what: str) -> None:
    plain = irkit.load(artifact, threads=2)
    path = keep(artifact, 2, [("scalar", 2)] * len(plain.plan.rows))
    path.write_text(damage(json.loads(path.read_text()), what), encoding="latin-1")
    with pytest.warns(UserWarning, match=f"{path}: choices by measurement are ignored: .*{DAMAGES[what]}"):
        exe = irkit.load(artifact, threads=2)
    assert levels_of(exe) == levels_of(plain) and exe(X).tobytes() == plain(X).tobytes()
    assert levels_of(irkit.load(artifact, threads=2)) == levels_of(plain), "a second warning is an error here"


def test_a_folder_in_the_files_place(artifact: Path) -> None:
    plain = irkit.load(artifact, threads=2)
    path = keep(artifact, 2, [("scalar", 2)] * len(plain.plan.rows))
    path.unlink()
    path.mkdir()
    with pytest.warns(UserWarning, match="ignored: .*directory"):
        assert levels_of(irkit.load(artifact, threads=2)) == levels_of(plain)
    assert not choices.write(path, digest_of(artifact), [("scalar", 1)])
    assert list(path.parent.iterdir()) == [path], "no temporary file stays behind"


def fake_times(monkeypatch: pytest.MonkeyPatch, best: int = 2) -> None:
    """Measurements as they should be: variant ``best`` is twice as fast as the others, and so are the tuned calls."""

    def measure(models: Any, arrays: list[Array], until: float, clock: Any) -> tuple[Array, int]:
        times = np.full((len(models), len(models[0].plan.rows)), 1000)
        times[best] = 500
        return times, tuning.MIN_ROUNDS

    def calls(models: Any, *_: Any) -> tuple[list[int], int]:
        return [1000] + [500] * (len(models) - 1), tuning.MIN_ROUNDS

    monkeypatch.setattr(tuning, "step_times", measure)
    monkeypatch.setattr(tuning, "call_times", calls)


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
    monkeypatch.setattr(tuning, "call_times", lambda models, *_: ([1000, *[990] * len(models[1:])], tuning.MIN_ROUNDS))
    found = irkit.tune(artifact, threads=2, seconds=60)
    assert not found.changed and found.path is None and not cache.exists()


def test_what_gives_other_bits_is_not_kept(artifact: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_times(monkeypatch)
    monkeypatch.setattr(tuning, "_same", lambda a, b, arrays: False)
    assert not irkit.tune(artifact, [X], threads=2, seconds=60).changed and not cache.exists()


def test_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(1)
    one, other = (irkit.compile(nn.Linear(12, 9).eval(), X[0, 0, :1]) for _ in range(2))
    assert tuning._same(one, one, [X[0, 0, :1]]) and not tuning._same(one, other, [X[0, 0, :1]])


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
    clock = Clock()
    times, rounds = tuning.step_times([exe, exe], [X], 9.5, clock)  # the tenth look at the clock is the last
    assert (rounds, clock.now) == (4, 10) and np.array(times).shape == (2, len(exe.plan.rows)) and np.min(times) > 0
    least, rounds = tuning.call_times([exe, exe], [X], 12.5, clock)
    assert rounds == 2 and len(least) == 2 and max(least) < 1 << 62
    assert tuning.call_times([exe, exe], [X], 0.0, clock) == ([1 << 62] * 2, 0)


class Clock:
    """A second passes whenever someone looks."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_each_step_gets_its_own_fastest_variant() -> None:
    amx, vnni = ("amx", 2), ("avx512vnni", 1)

    def step(before: int, *ns: int) -> tuning.StepTimes:
        return tuning.StepTimes("layer", before, tuple(zip((amx, vnni), ns, strict=True)), None)

    steps = [step(100, 100, 50), step(100, 60, 70), step(100, 98, 99), step(100, 95, 99), step(100, 200, 200)]
    assert tuning.pick(steps, tuning.WORTH) == [vnni, amx, None, amx, None]
    assert tuning.pick(steps, tuning.CLEARLY) == [vnni, amx, None, None, None]
    assert tuning.pick([tuning.StepTimes("layer", 100, (), None)], tuning.WORTH) == [None]


def test_what_gains_much_is_kept_when_all_together_gain_nothing(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(models: Any, arrays: list[Array], until: float, clock: Any) -> tuple[Array, int]:
        times = np.full((len(models), len(models[0].plan.rows)), 1000)
        times[1] = 950  # every step a little faster so,
        times[2, 0] = 500  # and the first one much faster otherwise
        return times, tuning.MIN_ROUNDS

    monkeypatch.setattr(tuning, "step_times", measure)
    monkeypatch.setattr(tuning, "call_times", lambda *_: ([1000, 1100, 600], tuning.MIN_ROUNDS))
    found = irkit.tune(artifact, [X], threads=2, seconds=60)
    assert (found.before_ns, found.after_ns) == (1000, 600)
    assert [bool(s.chosen) for s in found.steps] == [True] + [False] * (len(found.steps) - 1)
    assert found.steps[0].after_ns == 500 and found.steps[1].after_ns == 1000
    rows = irkit.load(artifact, threads=2).plan.rows
    assert [r.measured for r in rows] == [True] + [False] * (len(rows) - 1)


def test_variants_have_kernels_of_their_own(artifact: Path, tmp_path: Path) -> None:
    level = _native.effective_isa()
    floats = irkit.compile(nn.Linear(12, 9).eval(), X, target="native-fp32").save(tmp_path / "f32.irk")
    for path in (artifact, floats):
        variants, models = tuning._variants(path, 2, level, 1e9, lambda: 0)
        assert variants[:2] == [(level, 2), (level, 1)] and len(set(variants)) == len(variants) == len(models)
        assert all(variants.count((isa, n)) == 1 for isa, _ in variants for n in (1, 2))
        seen = {tuple(m._native.kernels) for m in models}
        assert len(seen) == len(variants) // 2, "a level without kernels of its own is not tried"
        assert ("scalar" in {isa for isa, _ in variants}) == (level == "scalar")
    few, _ = tuning._variants(artifact, 2, level, 0.5, lambda: 1)
    assert few == [(level, 2)], "no time to load more"


def test_the_plan_tells_what_was_measured(artifact: Path) -> None:
    plain = irkit.load(artifact, threads=2)
    assert "chosen by measurement" not in str(plain.plan)
    level, n = _native.effective_isa(), len(plain.plan.rows)
    keep(artifact, 2, [(level, 1)] + [(level, 0)] * (n - 1))
    lines = str(irkit.load(artifact, threads=2).plan).splitlines()
    assert [line.endswith("chosen by measurement") for line in lines].count(True) == 1
    assert lines[2].endswith("chosen by measurement")


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
    words = " ".join(done.output.replace("│", " ").replace("\u00a0", " ").split())
    assert "50%" in words and f"{_native.effective_isa()} x 1" in words
    monkeypatch.setattr(tuning, "call_times", lambda models, *_: ([1000] * len(models), tuning.MIN_ROUNDS))
    listed = CliRunner().invoke(app, ["tune", str(artifact), "--threads", "2", "--all"])
    assert listed.exit_code == 0 and "before" in listed.output and "nothing to change" in listed.output
