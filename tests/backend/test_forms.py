"""Forms of a plan chosen by measurement when a model is compiled: never needed, and never a bit is another.

Lines of layers together or one by one; weights sparse or dense.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import irkit
from irkit.backend import forms, tuning
from irkit.backend.native import chain
from irkit.cli import app
from irkit.errors import InputError
from irkit.ir.types import Array
from irkit.target import host_arch

X = np.random.default_rng(0).standard_normal((1, 8, 16, 16), dtype=np.float32)


def block(c: int) -> list[nn.Module]:
    """Expand, depthwise, project: what a chain takes."""
    return [
        nn.Conv2d(c, 4 * c, 1), nn.ReLU(), nn.Conv2d(4 * c, 4 * c, 3, padding=1, groups=4 * c), nn.ReLU(),
        nn.Conv2d(4 * c, c, 1),
    ]  # fmt: skip


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*block(8), nn.Tanh(), *block(8)).eval()


@pytest.fixture(autouse=True)
def small_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "MIN_BYTES", 1)


def families(exe: Any) -> list[str]:
    return [s["family"] for s in exe.plan.document["steps"]]


def fake(monkeypatch: pytest.MonkeyPatch, chains: tuple[int, int], calls: tuple[int, int] = (1000, 900)) -> None:
    """Times as they should be: the two chains take these ns, any other step 100; and calls before and after."""

    def step_times(models: Any, arrays: list[Array], until: float, clock: Any) -> tuple[list[Array], int]:
        together, alone = models
        left = iter(chains)
        first = [next(left) if f == "chain" else 100 for f in families(together)]
        return [np.array(first), np.full(len(alone.plan.rows), 100)], tuning.MIN_ROUNDS

    monkeypatch.setattr(forms, "step_times", step_times)
    monkeypatch.setattr(forms, "call_times", lambda *_: (list(calls), tuning.MIN_ROUNDS))


@pytest.mark.parametrize(
    ("chains", "kept"),
    [((250, 250), [True, True]), ((320, 250), [False, True]), ((250, 320), [True, False]), ((320, 320), [False] * 2)],
)
def test_lines_that_are_faster_one_by_one_are_apart(
    chains: tuple[int, int], kept: list[bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = irkit.compile(net(), X)
    assert families(plain).count("chain") == 2
    fake(monkeypatch, chains)
    exe = irkit.compile(net(), X, tune=60)
    lines = [["chain"] if k else ["conv", "dwconv", "conv"] for k in kept]
    mine = [f for f in families(exe) if f in ("chain", "conv", "dwconv")]
    assert mine == lines[0] + lines[1]
    notes = [r.note for r in exe.plan.rows if "apart by measurement: 0.3 us, together 0.3 us" in r.note]
    assert len(notes) == kept.count(False), "told once for each line"
    assert families(irkit.load(exe.save(tmp_path / "net.irk"))) == families(exe)
    assert exe(X).tobytes() == plain(X).tobytes()


def test_what_gains_nothing_in_a_whole_call_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, (900, 900), calls=(1000, 980))
    assert families(irkit.compile(net(), X, tune=60)).count("chain") == 2
    fake(monkeypatch, (900, 900), calls=(1000, 960))
    assert families(irkit.compile(net(), X, tune=60)).count("chain") == 0


def test_too_little_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert families(irkit.compile(net(), X, tune=1e-9)).count("chain") == 2
    fake(monkeypatch, (900, 900))
    monkeypatch.setattr(forms, "call_times", lambda *_: ([1000, 1], tuning.MIN_ROUNDS - 1))
    assert families(irkit.compile(net(), X, tune=60)).count("chain") == 2


def test_nothing_to_choose_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "step_times", None)  # a call would raise
    assert "chain" not in families(irkit.compile(nn.Linear(16, 4).eval(), X, tune=60))
    assert "chain" not in families(irkit.compile(net(), X, bands=False, tune=60))


def test_lines_with_the_same_ends_are_compared() -> None:
    """Whatever a list does on the way: `turned` is made in one of them only, `other` in the other one."""

    def steps(names: str) -> Any:
        return [SimpleNamespace(outputs=[SimpleNamespace(name=n)]) for n in names.split()]

    together, alone = steps("turned c d f h"), steps("a b c other d e f g h")
    times = [np.array([50, 250, 100, 100, 100]), np.array([90, 100, 100, 50, 50, 60, 36, 50, 48])]
    found = forms.gains(together, alone, times)
    ends = [(g.base[-1].outputs[0].name, g.other[0].outputs[0].name, g.base_ns, g.other_ns) for g in found]
    assert ends == [("c", "a", 300, 290), ("f", "e", 100, 96), ("h", "g", 200, 148)][: len(ends)] and len(ends) >= 2


def test_a_real_measurement_changes_no_bit() -> None:
    assert irkit.compile(net(), X, tune=0.3)(X).tobytes() == irkit.compile(net(), X)(X).tobytes()


def test_wrong_arguments() -> None:
    for seconds in (-1, 3601, float("nan"), "2", True):
        with pytest.raises(InputError, match="tune: expected a number of seconds from 0 to 3600"):
            irkit.compile(net(), X, tune=seconds)  # type: ignore[arg-type]
    other = "arm64-fp32" if host_arch() == "x86_64" else "x86_64-fp32"
    with pytest.raises(InputError, match=f"target {other} can't be measured here, on {host_arch()}"):
        irkit.compile(net(), X, target=other, tune=1)
    assert irkit.compile(net(), X, target=other, tune=0)


# ---- sparse or dense


def pruned() -> nn.Module:
    """Two 1x1 convolutions: 90 % zeros, which is predicted faster sparse, and 50 %, which is not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 1)).eval()
    for layer, zeros in ((0, 0.9), (2, 0.5)):
        w = model[layer].weight.data.view(-1)
        w[torch.randperm(len(w))[: round(zeros * len(w))]] = 0
    return model


def fake_storage(monkeypatch: pytest.MonkeyPatch, dense: list[int], sparse: list[int], after: int = 900) -> None:
    """Each layer takes 100 ns as predicted, and these with all weights dense, and sparse."""

    def step_times(models: Any, arrays: list[Array], until: float, clock: Any) -> tuple[list[Array], int]:
        moves = [[f == "move" for f in families(m)] for m in models]
        left = [iter([100, 100]), iter(dense), iter(sparse)]
        return [np.array([7 if m else next(t) for m in ms]) for ms, t in zip(moves, left, strict=True)], 5

    monkeypatch.setattr(forms, "step_times", step_times)
    monkeypatch.setattr(forms, "call_times", lambda *_: ([1000, after], 5))


@pytest.mark.parametrize(
    ("dense", "sparse", "kept"),
    [
        ([100, 100], [100, 100], ["spmm", "conv"]),
        ([50, 100], [100, 100], ["conv", "conv"]),
        ([100, 100], [100, 50], ["spmm", "spmm"]),
        ([50, 50], [50, 50], ["conv", "spmm"]),
    ],
)
def test_weights_are_stored_as_is_faster(
    dense: list[int], sparse: list[int], kept: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = irkit.compile(pruned(), X)
    fake_storage(monkeypatch, dense, sparse)
    exe = irkit.compile(pruned(), X, tune=60)
    assert [f for f in families(exe) if f != "move"] == kept
    told = [r.note for r in exe.plan.rows if "by measurement" in r.note]
    changed = [k for k, predicted in zip(kept, ("spmm", "conv"), strict=True) if k != predicted]
    for family, note in zip(changed, told, strict=True):
        assert f"{'sparse' if family == 'spmm' else 'dense'} by measurement: 0.1 us" in note
    assert exe(X).tobytes() == plain(X).tobytes()
    assert families(irkit.load(exe.save(tmp_path / "net.irk"))) == families(exe)


def test_storage_that_gains_nothing_in_a_whole_call_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_storage(monkeypatch, [50, 50], [50, 50], after=980)
    assert [f for f in families(irkit.compile(pruned(), X, tune=60)) if f != "move"] == ["spmm", "conv"]


def test_a_real_measurement_of_storage_changes_no_bit() -> None:
    assert irkit.compile(pruned(), X, tune=0.3)(X).tobytes() == irkit.compile(pruned(), X)(X).tobytes()


def make() -> tuple[nn.Module, Array]:
    return net(), X


def test_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(monkeypatch, (900, 250))
    arguments = ["compile", "tests.backend.test_forms:make", "-o", str(tmp_path / "net.irk"), "--plan"]
    done = CliRunner().invoke(app, [*arguments, "--tune", "60"])
    assert done.exit_code == 0, done.output
    exe = irkit.load(tmp_path / "net.irk")
    assert families(exe).count("chain") == 1 and "apart by measurement: 0.3 us, together 0.9 us" in str(exe.plan)
