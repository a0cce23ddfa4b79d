"""Instruction counting under emulation: the classes, exact counts, golden counts, MACs of inner loops."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import arm64, armcount, armgolden, armmca, armroot
from bench.armcount import CLASSES, Counter, Inference, total
from tests.builds import machine

ROOT = Path(__file__).parents[2]
TOOLS = armcount.missing_tools()
needs_tools = pytest.mark.skipif(bool(TOOLS), reason=f"not installed: {', '.join(TOOLS)}")
ASSEMBLER = all(map(shutil.which, ("aarch64-linux-gnu-as", "g++")))
needs_assembler = pytest.mark.skipif(not ASSEMBLER, reason="not installed: aarch64-linux-gnu-as, g++")

INSTRUCTIONS = {
    "dot": ["sdot v0.4s, v1.16b, v2.16b", "udot v0.2s, v1.8b, v2.8b", "sdot v0.4s, v1.16b, v2.4b[3]",
        "usdot v0.4s, v1.16b, v2.16b", "sudot v0.4s, v1.16b, v2.4b[1]", "bfdot v0.4s, v1.8h, v2.8h"],
    "mmla": ["smmla v0.4s, v1.16b, v2.16b", "ummla v0.4s, v1.16b, v2.16b", "usmmla v0.4s, v1.16b, v2.16b",
        "bfmmla v0.4s, v1.8h, v2.8h"],
    "fmla": ["fmla v0.4s, v1.4s, v2.4s", "fmls v0.2d, v1.2d, v2.2d", "fmla v0.4s, v1.4s, v2.s[3]",
        "fmla v0.8h, v1.8h, v2.8h", "fmadd s0, s1, s2, s3", "fnmsub d0, d1, d2, d3", "fmla s0, s1, v2.s[1]",
        "fmlal v0.4s, v1.4h, v2.4h", "fmlal2 v0.4s, v1.4h, v2.4h"],
    "imla": ["smlal v0.8h, v1.8b, v2.8b", "umlal2 v0.4s, v1.8h, v2.8h", "smlal v0.4s, v1.4h, v2.h[5]",
        "smull v0.8h, v1.8b, v2.8b", "smlsl2 v0.4s, v1.8h, v2.h[0]", "mla v0.4s, v1.4s, v2.4s",
        "mls v0.8h, v1.8h, v2.h[1]", "mul v0.4s, v1.4s, v2.4s", "sadalp v0.4s, v1.8h", "uadalp v0.8h, v1.16b",
        "sqdmull v0.4s, v1.4h, v2.4h"],
    "simd": ["fadd v0.4s, v1.4s, v2.4s", "fmul v0.4s, v1.4s, v2.s[0]", "fmul s0, s1, s2",
        "pmul v0.16b, v1.16b, v2.16b", "fmin v0.4s, v1.4s, v2.4s", "sqxtn v0.4h, v1.4s", "scvtf v0.4s, v1.4s",
        "fcvtns v0.4s, v1.4s", "dup v0.4s, w1", "movi v0.4s, #0", "tbl v0.16b, {v1.16b}, v2.16b",
        "saddl v0.8h, v1.8b, v2.8b", "addv s0, v1.4s", "fcvtzs x0, s1", "saddlp v0.4s, v1.8h",
        "sqrdmulh v0.4s, v1.4s, v2.4s", "fcmla v0.4s, v1.4s, v2.4s, #90", "umov w0, v1.b[2]"],
    "sve": ["ptrue p0.s", "ld1w {z0.s}, p0/z, [x0]", "fmla z0.s, p0/m, z1.s, z2.s"],
    "vload": ["ldr q0, [x0]", "ldr s0, [x0, x1, lsl #2]", "ldp q0, q1, [x0], #32", "ldur d0, [x0, #-8]",
        "ld1 {v0.16b}, [x0], #16", "ld1r {v0.4s}, [x0]", "ld4 {v0.16b-v3.16b}, [x0]", "ld1 {v0.s}[1], [x0]",
        "ldr q0, ."],
    "vstore": ["str q0, [x0]", "str b0, [x0, #1]", "stp d0, d1, [sp, #-16]!", "st1 {v0.16b}, [x0]",
        "st1 {v0.b}[3], [x0], #1"],
    "load": ["ldr x0, [x1]", "ldrsb w0, [x1, #1]", "ldp x0, x1, [sp]", "ldr x0, .", "ldxr x0, [x1]",
        "ldadd x0, x1, [x2]", "cas x0, x1, [x2]", "ldapur x0, [x1]", "ldrsw x0, [x1], #4", "prfm pldl1keep, [x0]"],
    "store": ["str x0, [x1]", "strb w0, [x1, x2]", "stp x29, x30, [sp, #-32]!", "stlr x0, [x1]",
        "sturh w0, [x1, #-2]", "stxr w0, x1, [x2]"],
    "branch": ["b .", "b.ne .", "bl .", "ret", "cbz x0, .", "tbnz x0, #3, .", "svc #0", "nop"],
    "int": ["add x0, x1, x2", "mov x0, #1", "madd x0, x1, x2, x3", "adrp x0, .", "csel x0, x1, x2, eq",
        "udiv x0, x1, x2"],
}  # fmt: skip


@needs_assembler
def test_every_class_from_the_encoding(tmp_path: Path) -> None:
    names = [name for name, lines in INSTRUCTIONS.items() for _ in lines]
    lines = [line for lines in INSTRUCTIONS.values() for line in lines]
    (tmp_path / "all.s").write_text(".arch armv8.6-a+sve+bf16+i8mm+fp16fml+rcpc\n" + "\n".join(lines) + "\n")
    (tmp_path / "main.cc").write_text(
        '#include <cstdio>\n#include "classes.h"\n'
        "int main() { uint32_t w; while (fread(&w, 4, 1, stdin)) puts(a64::kNames[a64::classify(w)]); }\n"
    )
    for command in (
        ["aarch64-linux-gnu-as", "all.s", "-o", "all.o"],
        ["aarch64-linux-gnu-objcopy", "-O", "binary", "-j", ".text", "all.o", "all.bin"],
        ["g++", "-std=c++17", f"-I{ROOT / 'bench/arm64'}", "main.cc", "-o", "main"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    code = (tmp_path / "all.bin").read_bytes()[: 4 * len(lines)]
    out = subprocess.run([tmp_path / "main"], input=code, capture_output=True, check=True).stdout.decode().split()
    assert list(zip(lines, out, strict=True)) == list(zip(lines, names, strict=True))
    assert set(names) == set(CLASSES)


@pytest.fixture(scope="module")
def counter() -> Counter:
    assert machine("arm64") == armcount.KERNELS
    made = Counter(ROOT / "build/arm64-bench")  # where bench/arm64.py builds: only once
    made.make()
    return made


@needs_tools
def test_counts_are_exact(counter: Counter, tmp_path: Path) -> None:
    """A loop whose instructions are known, between marks 1 and 2."""
    (tmp_path / "loop.s").write_text(
        ".global _start\n_start:\n mov w19, #1000\n bl mark\n"
        "1: fmla v0.4s, v1.4s, v2.4s\n ldr q3, [sp]\n subs w19, w19, #1\n b.ne 1b\n"
        " bl mark\n mov x0, #0\n mov x8, #94\n svc #0\n"
        "mark: mov x0, #0\n ldr w1, =0x69726B01\n add w1, w1, w20\n add w20, w20, #1\n mov x8, #141\n svc #0\n ret\n"
    )
    program = str(tmp_path / "loop")
    subprocess.run(
        ["aarch64-linux-gnu-gcc", "-nostdlib", "-static", str(tmp_path / "loop.s"), "-o", program], check=True
    )
    for _ in range(2):
        _, marks, blocks = counter._emulate("cortex-a53", [program], 3)
        (_, _), (mark, counts) = marks
        assert mark == armcount.END
        expected = {"fmla": 1000, "vload": 1000, "branch": 1000 + 3, "int": 1000 + 4, "load": 1}
        assert {c: n for c, n in counts.items() if n} == expected
        assert (blocks[0].length, blocks[0].runs) in {(4, 1000), (4, 999)}  # the first turn may start in a longer block


@needs_tools
def test_counts_of_a_model_are_repeatable_and_its_steps_add_up(counter: Counter, tmp_path: Path) -> None:
    import numpy as np
    import torch

    import irkit

    net = torch.nn.Sequential(torch.nn.Conv2d(4, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(576, 8))
    rng = np.random.default_rng(0)
    batches = [torch.from_numpy(rng.standard_normal((1, 4, 8, 8), np.float32)) for _ in range(32)]
    path = tmp_path / "net.irk"
    irkit.compile(net.eval(), batches[0], target="arm64-int8", calibration=batches).save(path)
    levels = zip(armcount.CPUS, ("neon", "neondot", "neoni8mm"), ("imla", "dot", "mmla"), strict=True)
    for cpu, isa, kind in levels:
        found = counter.artifact(path, cpu, steps=True, hot=4)
        assert found == counter.artifact(path, cpu, steps=True, hot=4)
        assert found.isa == isa and found.counts[kind] > 0
        assert {"qeltwise", "qconv", "qlinear"} <= {s.family for s in found.steps}
        parts, whole = sum(total(s.counts) for s in found.steps), total(found.counts)
        assert 0 < whole - parts < 100 * (len(found.steps) + 3)  # what is left is the runtime's own
        spent = [b.instructions for b in found.hot]
        assert spent == sorted(spent, reverse=True) and sum(spent) < whole
        assert all(re.fullmatch(r".+\+0x[0-9a-f]+", b.symbol) for b in found.hot)


@needs_tools
def test_a_damaged_artifact_is_reported(counter: Counter, tmp_path: Path) -> None:
    (tmp_path / "bad.irk").write_bytes(b"not an artifact")
    with pytest.raises(armcount.CountError, match="exit status 1"):
        counter.artifact(tmp_path / "bad.irk", "cortex-a53")


def test_golden_verdicts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(armgolden, "FILE", tmp_path / "golden.json")
    monkeypatch.setattr(armgolden, "compiler_version", lambda: "compiler 1")
    none = dict.fromkeys(CLASSES, 0)
    base = {**none, "dot": 1000, "vload": 400, "int": 600}
    golden = armgolden.Golden.load()
    assert golden.compare("net.int8", "cpu", base).failed  # nothing is known of it
    golden.keep([golden.compare("net.int8", "cpu", base)])
    golden = armgolden.Golden.load()
    assert golden.incomparable() is None
    same = golden.compare("net.int8", "cpu", base)
    assert not same.failed and not same.better and same.text == "as before"
    assert not golden.compare("net.int8", "cpu", {**base, "dot": 1020}).failed
    worse = golden.compare("net.int8", "cpu", {**base, "dot": 1021})
    assert worse.failed and "vector arithmetic +2.1%" in worse.text
    assert golden.compare("net.int8", "cpu", {**base, "vload": 400, "load": 9}).failed  # 2.25 % more loads
    assert not golden.compare("net.int8", "cpu", {**base, "dot": 0, "mmla": 1000}).failed  # another kind of arithmetic
    better = golden.compare("net.int8", "cpu", {**base, "int": 500})
    assert better.better and not better.failed
    monkeypatch.setattr(armgolden, "compiler_version", lambda: "compiler 2")
    assert "compiler 2" in (golden.incomparable() or "")
    golden.keep([golden.compare("other.int8", "cpu", base)])
    assert list(json.loads(armgolden.FILE.read_text())["counts"]) == ["other.int8"]  # counts of two compilers don't mix


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench/arm64.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@needs_tools
@pytest.mark.slow
def test_golden_counts() -> None:
    if reason := armgolden.Golden.load().incomparable():
        pytest.skip(reason)
    done = bench("check")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_tools
def test_check_fails_where_more_is_counted_than_golden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(armgolden, "FILE", tmp_path / "golden.json")
    runner, check = CliRunner(), ["check", "ad_autoencoder"]
    assert isinstance(runner.invoke(arm64.app, check).exception, armcount.CountError)  # no golden counts yet
    assert runner.invoke(arm64.app, [*check, "--bless"]).exit_code == 0
    assert runner.invoke(arm64.app, check).exit_code == 0
    golden = json.loads(armgolden.FILE.read_text())
    counts = golden["counts"]["ad_autoencoder.int8"]["cortex-a76"]
    counts["vload"] = int(counts["vload"] * 0.9)
    armgolden.FILE.write_text(json.dumps(golden))
    assert runner.invoke(arm64.app, check).exit_code == 1


@needs_tools
def test_count_prints_steps_and_writes_json(tmp_path: Path) -> None:
    out = tmp_path / "counts.json"
    done = bench(
        "count", "ad_autoencoder", "--cpu", "cortex-a76", "--steps", "--hot", "2", "--classes", "--json", str(out)
    )
    assert done.returncode == 0, done.stderr
    assert "qlinear.s8s8.neondot" in done.stdout and "hottest blocks" in done.stdout
    int8, fp32 = json.loads(out.read_text())
    assert (int8["model"], int8["precision"], fp32["precision"]) == ("ad_autoencoder", "int8", "fp32")
    ours = int8["engines"]["irkit"]
    assert ours["total"] == sum(ours["classes"].values()) > ours["classes"]["dot"] >= 264192 // 16  # its MACs
    assert {"family", "kernel", "layer", "classes"} == set(ours["steps"][0])
    assert "unknown network 'resnet9000'" in bench("count", "resnet9000").stderr
    assert "--root and --peers go together" in bench("count", "--root", str(tmp_path)).stderr


def test_markdown_puts_the_best_other_engine_beside_ours() -> None:
    def inference(n: int) -> Inference:
        return Inference("", {**dict.fromkeys(CLASSES, 0), "int": n})

    rows = [
        {"model": "net", "precision": "int8", "cpu": cpu, "engines": {name: inference(n) for name, n in found.items()}}
        for cpu, found in (("a", {"irkit": 1_230_000, "litert": 3_000_000, "ort": 2_000_000}), ("b", {"irkit": 456}))
    ]
    head, _, line = arm64._markdown(rows).splitlines()
    assert head == "| model |  | a | best other | b | best other |"
    assert line == "| net | int8 | 1.23 | 2.00 | 0.000456 |  |"


LISTING = """
0000000000000000 <void irk::(anonymous namespace)::Ops::tile<6, 4>(irk::QTile const&)>:
   0:\tmov\tx0, #0x4
   4:\tmov\tx1, #0x2
   8:\tldr\tq0, [x2], #16
   c:\tsdot\tv1.4s, v2.16b, v0.4b[0]
  10:\tsmlal2\tv3.4s, v4.8h, v5.8h
  14:\tsubs\tx1, x1, #0x1
  18:\tb.ne\t8 <void irk::(anonymous namespace)::Ops::tile<6, 4>(irk::QTile const&)+0x8>  // b.any
  1c:\tsmmla\tv1.4s, v2.16b, v3.16b
  20:\tcbnz\tx0, 4 <void irk::(anonymous namespace)::Ops::tile<6, 4>(irk::QTile const&)+0x4>
  24:\tret
"""


def test_inner_loop_and_its_macs() -> None:
    ((function, code),) = armmca._functions(LISTING)
    loop = armmca._best_loop(code)
    assert loop is not None and [i.address for i in loop] == [8, 12, 16, 20, 24]  # not the loop around it
    assert [i.macs for i in loop] == [0, 16, 4, 0, 0]
    assert loop[-1].assembly() == "b.ne .Lloop" and loop[1].assembly() == "sdot v1.4s, v2.16b, v0.4b[0]"
    assert armmca._short(function) == "Ops::tile<6, 4>"
    assert [i.macs for i in code if i.mnemonic == "smmla"] == [32]


@needs_tools
def test_inner_loops_of_the_int8_products_keep_the_core_busy(counter: Counter) -> None:
    """Two sdot a cycle are the limit of Neoverse N1, two smmla that of N2: 32 and 64 MACs."""
    try:
        tool = armmca.find_tool()
    except armcount.CountError as e:
        pytest.skip(str(e))
    for kernel, instruction, core, least in (
        ("qconv/neondot", "sdot", "neoverse-n1", 30),
        ("qconv/neoni8mm", "smmla", "neoverse-n2", 60),
    ):
        (best,) = armmca.loops(armcount.KERNELS, [kernel], 1)
        assert best.macs >= 256 and instruction in " ".join(best.code) and core in best.runs_on
        assert least <= best.macs / tool.cycles(best, core) <= least / 30 * 32
    with pytest.raises(armcount.CountError, match="no kernel file qconv/nothing"):
        armmca.loops(armcount.KERNELS, ["qconv/nothing"], 1)


def test_an_arm_processor_description(tmp_path: Path) -> None:
    armroot.write_cpuinfo(tmp_path, "cortex-a53")
    text = (tmp_path / "proc/cpuinfo").read_text()
    assert "CPU part\t: 0xd03" in text and "asimddp" not in text
    armroot.write_cpuinfo(tmp_path, "max,sve=off")
    assert "i8mm" in (tmp_path / "proc/cpuinfo").read_text()
    with pytest.raises(armroot.RootError, match="no description of 'z80'"):
        armroot.write_cpuinfo(tmp_path, "z80")
    with pytest.raises(armroot.RootError, match="holds no arm64 Python"):
        armroot.python_command(tmp_path)
