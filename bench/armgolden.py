"""Golden instruction counts: what the networks cost when someone last looked, and whether they cost more now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bench.armcount import ARITHMETIC, CLASSES, LOADS, Counts, compiler_version, total

FILE = Path(__file__).parent / "arm64/golden.json"
TOLERANCE = 1.02
WATCHED = {"vector arithmetic": ARITHMETIC, "loads": LOADS, "all": CLASSES}


@dataclass(frozen=True)
class Verdict:
    """One comparison: `failed` when a watched group of classes grew by more than 2 %."""

    model: str
    cpu: str
    golden: Counts
    now: Counts

    def ratios(self) -> dict[str, float]:
        """Of each watched group, now over golden."""
        return {name: total(self.now, group) / max(total(self.golden, group), 1) for name, group in WATCHED.items()}

    @property
    def failed(self) -> bool:
        return any(ratio > TOLERANCE for ratio in self.ratios().values())

    @property
    def better(self) -> bool:
        return total(self.now) * TOLERANCE < total(self.golden)

    @property
    def text(self) -> str:
        """What changed by more than 2 %."""
        changed = [f"{name} {r - 1:+.1%}" for name, r in self.ratios().items() if not 1 / TOLERANCE <= r <= TOLERANCE]
        return f"{'FAILED: ' if self.failed else ''}{', '.join(changed)}" if changed else "as before"


class Golden:
    """The counts kept in arm64/golden.json: model.precision -> cpu -> class -> instructions."""

    def __init__(self, compiler: str, counts: dict[str, dict[str, Counts]]) -> None:
        self.compiler, self.counts = compiler, counts

    @staticmethod
    def load() -> Golden:
        if not FILE.exists():
            return Golden("", {})
        data = json.loads(FILE.read_text())
        return Golden(data["compiler"], data["counts"])

    def incomparable(self) -> str | None:
        """Why counts of this machine's tools can't be held against these; None when they can."""
        here = compiler_version()
        return (
            None if here == self.compiler else f"the golden counts were made with {self.compiler!r}, here is {here!r}"
        )

    def compare(self, model: str, cpu: str, now: Counts) -> Verdict:
        """A network without golden counts fails: every count is more than none."""
        golden = self.counts.get(model, {}).get(cpu, {})
        return Verdict(model, cpu, {c: golden.get(c, 0) for c in CLASSES}, now)

    def keep(self, verdicts: list[Verdict]) -> None:
        """Makes what was counted now the golden counts of those models and CPUs, and writes the file."""
        if compiler_version() != self.compiler:
            self.counts = {}
        for v in verdicts:
            self.counts.setdefault(v.model, {})[v.cpu] = {c: n for c, n in v.now.items() if n}
        self.compiler = compiler_version()
        FILE.write_text(json.dumps({"compiler": self.compiler, "counts": self.counts}, indent=1, sort_keys=True) + "\n")
