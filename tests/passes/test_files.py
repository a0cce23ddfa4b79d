"""File tests of passes: ``// RUN: <pipeline>``, the input, ``// ----``, the expected result.

Sections of a file are separated by ``// ====`` lines; other comment lines right after RUN say what a section shows.
Results are compared structurally, names, locations and constants included, and the two graphs are run on random
inputs and compared by the effect that the passes declare. ``--bless`` rewrites what is expected; read the diff.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import irkit.passes  # noqa: F401
from irkit.ir.graph import Graph
from irkit.ir.interp import run
from irkit.ir.parse import parse_graph
from irkit.ir.passes import Effect, PassManager, ValueCheck, all_passes, compare, parse_pipeline
from irkit.ir.text import print_graph
from irkit.ir.types import Array, TensorType
from irkit.ir.verify import difference, verify

HERE = Path(__file__).parent
SECTION, MIDDLE, RUN = "// ====\n", "// ----\n", "// RUN:"
ORDER = [Effect.EXACT, Effect.ROUNDING, Effect.LOSSY]


def sections(path: Path) -> list[str]:
    return path.read_text().split(SECTION)


def cases() -> Iterator[tuple[Path, int]]:
    for path in sorted(HERE.glob("*/*.ir")):
        for i in range(len(sections(path))):
            yield path, i


def sample(t: TensorType, seed: int) -> Array:
    rng = np.random.default_rng([seed, *t.shape])
    if t.dtype.is_float:
        return (rng.standard_normal(t.shape) * 3).astype(t.dtype.numpy)
    if t.dtype.numpy == np.bool_:
        return rng.integers(0, 2, t.shape).astype(bool)
    info = np.iinfo(t.dtype.numpy)
    return rng.integers(max(info.min, -1000), min(info.max, 1000), t.shape, endpoint=True).astype(t.dtype.numpy)


def inputs(g: Graph, seed: int) -> list[Array]:
    return [sample(v.type, seed + i) for i, v in enumerate(g.inputs)]


def text_of(g: Graph) -> str:
    return print_graph(g, inline=1 << 20)


@pytest.mark.parametrize(("path", "index"), list(cases()), ids=lambda v: v.stem if isinstance(v, Path) else str(v))
def test_file(path: Path, index: int, request: pytest.FixtureRequest) -> None:
    all_sections = sections(path)
    source, _, expected = all_sections[index].partition(MIDDLE)
    first = source.split("\n", 1)[0]
    assert first.startswith(RUN), f"{path.name}, section {index}: starts with {first!r}"
    passes = parse_pipeline(first.removeprefix(RUN))
    before = parse_graph(source)
    g = before.clone()
    samples = [inputs(g, seed) for seed in (1, 2)]
    PassManager(passes, [ValueCheck(samples)]).run(g)
    effect = max((p.effect for p in passes), key=ORDER.index)
    for s in samples:
        for a, b in zip(run(before, *s), run(g, *s), strict=True):
            message, _ = compare(a, b, effect, max(p.rtol for p in passes))
            assert not message
    again = g.clone()
    PassManager(passes).run(again)
    assert effect is Effect.LOSSY or difference(g, again) is None, "running the passes again changes the result"
    if request.config.getoption("--bless", default=False):
        all_sections[index] = source + MIDDLE + text_of(g)
        path.write_text(SECTION.join(all_sections))
        return
    want = parse_graph(expected)
    verify(want)
    found = difference(g, want)
    assert found is None, f"{found}\ngot:\n{text_of(g)}"


def test_every_pass_has_files() -> None:
    folders = {p.parent.name for p in HERE.glob("*/*.ir")} | {"calibrate"}  # needs data: test_calibrate.py
    assert {n for n, c in all_passes().items() if c.__module__.startswith("irkit.passes.")} == folders
