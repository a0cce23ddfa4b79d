"""The shape of the project: layers import downwards only, every op is documented and sampled."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import irkit
import irkit.ops
from irkit.ir.opdef import REGISTRY, OpDef

ROOT = Path(irkit.__file__).parent
# What each part of irkit may import. ir <- ops <- {passes, frontends, backend, ...} <- pipeline <- the public API.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "target": {"errors"},
    "deploy": {"errors"},
    "ir": {"errors"},
    "ops": {"errors", "ir"},
    "quant": {"errors", "ir", "ops"},
    "sparse": {"errors", "ir", "ops"},
    "passes": {"errors", "ir", "ops", "quant", "sparse"},
    "frontends": {"errors", "ir", "ops"},
    "backend": {"errors", "target", "ir", "ops", "quant", "sparse", "deploy"},
    "debug": {"errors", "ir", "ops"},
    "bench": {"errors", "target", "ir", "ops", "backend"},
    "pipeline": {"errors", "target", "ir", "ops", "quant", "sparse", "passes", "frontends", "backend", "debug"},
}
TOP = {"__init__", "__main__", "cli"}  # may import anything


def part_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> set[str]:
    """Parts of irkit that a file imports, at the top or inside functions, not only for type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{a.name}" for a in node.names} if node.module == "irkit" else {node.module or ""}
    return {name.split(".")[1] for name in found if name.startswith("irkit.")}


FILES = sorted(p for p in ROOT.rglob("*.py") if part_of(p) not in TOP)


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])
def test_layers_import_downwards(path: Path) -> None:
    part = part_of(path)
    assert part in ALLOWED or part.startswith("_"), f"irkit/{part} has no place in the layering"
    wrong = imports(path) - ALLOWED.get(part, set()) - {part, "_native"}
    assert not wrong, f"{path.relative_to(ROOT)} ({part}) must not import irkit.{', irkit.'.join(sorted(wrong))}"


def test_walker_sees_imports(tmp_path: Path) -> None:
    f = tmp_path / "m.py"
    f.write_text(
        "import irkit.passes.fuse\nfrom irkit import pipeline\ndef g():\n    from irkit.ops.core import const\n"
    )
    assert imports(f) == {"passes", "pipeline", "ops"}


@pytest.mark.parametrize("opdef", list(REGISTRY.values()), ids=list(REGISTRY))
def test_op_has_doc_and_cases(opdef: OpDef) -> None:
    assert len(opdef.doc) >= 3 and opdef.doc[-1] == ".", "the docstring is the op's documentation"
    names = [c.name for c in opdef.cases()]
    assert names and all(names), "every op has named samples"
    assert len(set(names)) == len(names), "sample names are unique"


def test_op_families_are_exported() -> None:
    exported = {getattr(irkit.ops, n) for n in irkit.ops.__all__}
    assert exported == set(REGISTRY.values())


def test_known_tags_only() -> None:
    known = {"anchor", "elementwise", "unary", "view", "same_scale", "int8", "channels_last"}
    for opdef in REGISTRY.values():
        assert opdef.tags <= known, f"{opdef.name}: unknown tag {opdef.tags - known}"
