"""The loader takes whole artifacts and refuses every other file, each with a message of its own."""

from __future__ import annotations

import copy
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irkit import _native
from irkit.errors import ArtifactError, InputError, RuntimeFailure
from tests.kernels.artifacts import (
    ADD,
    N,
    artifact,
    eltwise,
    header_of,
    pack,
    plan_tensors,
    reference,
    seal,
    small_consts,
    small_plan,
    tensor,
)

X = np.linspace(-2, 2, N, dtype=np.float32)


def test_whole_artifact_runs(tmp_path: Path) -> None:
    blob = artifact()
    path = tmp_path / "m.irk"
    path.write_bytes(blob)
    for source in (blob, bytearray(blob), memoryview(blob), path, str(path)):
        (y,) = _native.load(source).run([X])
        np.testing.assert_array_equal(y, reference(X))


def test_misaligned_bytes_load() -> None:
    blob = artifact()
    (y,) = _native.load(memoryview(b"x" + blob)[1:]).run([X])
    np.testing.assert_array_equal(y, reference(X))


def test_safetensors_reads_it(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "m.irk"
    path.write_bytes(artifact())
    tensors = safetensors.load_file(path)
    np.testing.assert_array_equal(tensors["w"], small_consts()["w"])


def test_tensors_are_read_only_views_that_outlive_the_model() -> None:
    m = _native.load(artifact())
    assert sorted(m.tensor_names()) == ["irkit.plan", "w"]
    w = m.tensor("w")
    del m
    np.testing.assert_array_equal(w, small_consts()["w"])
    with pytest.raises(ValueError, match="read-only"):
        w[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        w.flags.writeable = True
    with pytest.raises(KeyError):
        _native.load(artifact()).tensor("v")


def rejected(blob: bytes) -> bool:
    try:
        _native.load(blob, threads=1)
    except ArtifactError:
        return True
    return False


def test_every_flipped_bit_is_rejected() -> None:
    blob = bytearray(artifact())
    assert len(blob) >= 4096
    kept = []
    for i in range(len(blob)):
        for bit in range(8):
            blob[i] ^= 1 << bit
            if not rejected(blob):
                kept.append((i, bit))
            blob[i] ^= 1 << bit
    assert not kept
    assert not rejected(blob)


def test_every_truncation_is_rejected() -> None:
    blob = artifact()
    assert [n for n in range(len(blob)) if not rejected(blob[:n])] == []


def test_appended_and_joined_files_are_rejected(tmp_path: Path) -> None:
    blob = artifact()
    assert rejected(blob + b"\0") and rejected(blob + blob) and rejected(b"\0" + blob)
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as z:
        z.writestr("a", "b")
    polyglot = blob + (tmp_path / "p.zip").read_bytes()
    assert rejected(polyglot) and rejected(seal(polyglot))  # a repaired checksum does not help


def test_what_is_no_file(tmp_path: Path) -> None:
    fifo, empty, link = tmp_path / "fifo", tmp_path / "empty", tmp_path / "link"
    os.mkfifo(fifo)
    empty.touch()
    link.symlink_to("nowhere")
    for path, message in (
        (tmp_path, "not a regular file"),
        (fifo, "not a regular file"),
        (empty, "is empty"),
        (link, "No such file"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(ArtifactError, match=message):
            _native.load(path)
    with pytest.raises(InputError, match="NUL"):
        _native.load("a\0b")
    with pytest.raises(InputError, match="contiguous"):
        _native.load(memoryview(artifact())[::2])
    with pytest.raises(TypeError):
        _native.load(3)  # type: ignore[arg-type]


# ---- broken containers: (name, bytes, message) ---------------------------------------------------------------------


def _header(change: Callable[[dict[str, Any]], None]) -> bytes:
    tensors = plan_tensors(small_plan(), small_consts())
    header = header_of(tensors)
    change(header)
    return pack(header, b"".join(a.tobytes() for a in tensors.values()))


def _entry(**fields: Any) -> bytes:
    return _header(lambda h: h["w"].update(fields))


def _text(old: bytes, new: bytes) -> bytes:
    tensors = plan_tensors(small_plan(), small_consts())
    text = json.dumps(header_of(tensors), separators=(",", ":")).encode()
    assert old in text
    return pack(text.replace(old, new, 1), b"".join(a.tobytes() for a in tensors.values()))


def _drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda h: h["w"].pop(key)


def _shift(h: dict[str, Any]) -> None:
    h["irkit.plan"]["data_offsets"] = [v + 8 for v in h["irkit.plan"]["data_offsets"]]


def _unaligned() -> bytes:
    plan = np.frombuffer(json.dumps(small_plan()).encode() + b" " * 7, np.uint8)
    plan = plan[: len(plan) // 4 * 4 + 1]  # ends one byte past a multiple of 4
    tensors = {"irkit.plan": plan, **small_consts()}
    return pack(header_of(tensors), b"".join(a.tobytes() for a in tensors.values()))


BLOB = artifact()
SUM = BLOB[BLOB.index(b"xxh64:") + 6 :][:16]
CONTAINERS: list[tuple[str, bytes, str]] = [
    ("empty", b"", "0 bytes is too short"),
    ("seven bytes", BLOB[:7], "7 bytes is too short"),
    ("length -1", b"\xff" * 8 + BLOB[8:], "header length 18446744073709551615 is more than 16 MiB"),
    ("length 2^63", (1 << 63).to_bytes(8, "little") + BLOB[8:], "header length 9223372036854775808 is more"),
    ("length past the end", (len(BLOB)).to_bytes(8, "little") + BLOB[8:], "is cut off"),
    ("length not of 8", (9).to_bytes(8, "little") + BLOB[8:], "header length 9 is not a multiple of 8"),
    ("length 0", bytes(8) + BLOB[8:], "not an irkit artifact: the header does not begin"),
    ("other safetensors", _text(b'{"__metadata__"', b'{"_metadata__"'), "does not begin with irkit.version"),
    ("text for version", _text(b'"1.0"', b'"one"'), "not of the form"),
    ("version 01.0", _text(b'"1.0"', b'"01.0"'), "not of the form"),
    ("version 2.7", _text(b'"1.0"', b'"2.7"'), r"version 2\.7 is newer than 1\.0"),
    ("version 0.9", _text(b'"1.0"', b'"0.9"'), r"version 0\.9 does not exist"),
    ("other checksum", _text(b"xxh64:", b"crc32:"), "not followed by irkit.checksum of kind xxh64"),
    ("long checksum", BLOB.replace(b"xxh64:", b"xxh64:0", 1)[: len(BLOB)], "irkit.checksum is not 16 hex digits"),
    ("upper-case checksum", BLOB.replace(SUM, b"ABCDEF0123456789"), "not 16 lower-case hex digits"),
    (
        "wrong checksum",
        BLOB.replace(SUM, b"0123456789abcdef"),
        "mismatch: the file says 0123456789abcdef",
    ),
    ("requires", _text(b'0000"}', b'0000","irkit.requires":"magic"}'), "requires 'magic'"),
    ("metadata number", _text(b'0000"}', b'0000","n":1}'), "__metadata__ entry 'n' is not a string"),
    ("broken JSON", _text(b'"dtype":"F32"', b'"dtype" "F32"'), "header: byte .*expected ':'"),
    ("duplicate tensor", _text(b'"irkit.plan"', b'"w"'), "header: duplicate key 'w'"),
    ("nameless tensor", _text(b'"w"', b'""'), "tensor name is empty"),
    ("long name", _text(b'"w"', b'"' + b"w" * 1025 + b'"'), "longer than 1024 bytes"),
    ("shape number", _entry(shape=N), "shape is not a list"),
    ("requires nothing known", _text(b'0000"}', b'0000","irkit.requires":"x"}'), "artifact requires 'x'"),
    ("duplicate field", _text(b'"shape":', b'"dtype":"F32","shape":'), "duplicate key 'dtype'"),
    ("deep header", _text(b'"shape":[1024]', b'"shape":' + b"[" * 40 + b"]" * 40), "nested too deeply"),
    ("no shape", _header(_drop("shape")), "needs exactly dtype, shape and data_offsets"),
    ("extra field", _entry(color="red"), "needs exactly dtype"),
    ("entry is a list", _header(lambda h: h.update(w=[1])), "needs exactly dtype"),
    ("dtype F16", _entry(dtype="F16"), "unknown dtype 'F16'"),
    ("dtype 7", _entry(dtype=7), "unknown dtype"),
    ("rank 9", _entry(shape=[1] * 8 + [N]), "at most 8 dimensions"),
    ("dimension -1", _entry(shape=[-1]), "dimension 0 is not an integer from 1"),
    ("dimension 0", _entry(shape=[N, 0]), "dimension 1 is not an integer from 1"),
    ("dimension 1.5", _entry(shape=[1.5]), "dimension 0 is not an integer"),
    ("dimension 2^40", _entry(shape=[1 << 40]), "dimension 0 is not an integer from 1 to 2"),
    ("count wraps 64 bits", _entry(shape=[1 << 31, 1 << 31, 4]), "larger than 2"),
    ("bytes wrap 64 bits", _entry(shape=[1 << 31, 1 << 30]), "larger than 2"),
    ("offsets missing one", _entry(data_offsets=[0]), "data_offsets is not two integers"),
    ("offset negative", _entry(data_offsets=[-4096, 0]), "outside the buffer"),
    ("offset beyond", _entry(data_offsets=[1 << 40, (1 << 40) + 4096]), "outside the buffer"),
    ("offset 2^70", _entry(data_offsets=[0, 1 << 70]), "not two integers"),
    ("offsets reversed", _entry(data_offsets=[4096, 0]), "outside the buffer"),
    ("too few bytes", _entry(shape=[N - 1]), "shape needs 4092 bytes, data_offsets give 4096"),
    ("shifted", _header(_shift), "'irkit.plan': data_offsets .* outside the buffer"),
    ("overlap", _header(lambda h: h.update(v=dict(h["w"]))), "overlap"),
    ("unaligned data", _unaligned(), "not aligned to its element"),
    ("bytes left over", seal(BLOB + bytes(8)), "8 bytes after the last tensor"),
    ("no plan", pack(header_of(small_consts()), small_consts()["w"].tobytes()), "no tensor 'irkit.plan'"),
    ("plan not bytes", _header(lambda h: (h.pop("w"), h.pop("irkit.plan"))), "bytes after the last tensor"),
]


@pytest.mark.parametrize(("blob", "message"), [c[1:] for c in CONTAINERS], ids=[c[0] for c in CONTAINERS])
def test_broken_container(blob: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        _native.load(blob)


def test_hole_between_tensors() -> None:
    consts = small_consts()
    tensors = plan_tensors(small_plan(), consts)
    header = header_of(tensors)
    begin, end = header["irkit.plan"]["data_offsets"]
    header["irkit.plan"]["data_offsets"] = [begin + 8, end + 8]
    blob = pack(header, consts["w"].tobytes() + bytes(8) + tensors["irkit.plan"].tobytes())
    with pytest.raises(ArtifactError, match="begins at 4104, the one before ends at 4096: hole"):
        _native.load(blob)


def test_plan_of_another_type() -> None:
    tensors = {"irkit.plan": np.zeros(4, np.float32)}
    with pytest.raises(ArtifactError, match=r"'irkit\.plan' is not a list of U8"):
        _native.load(pack(header_of(tensors), bytes(16)))


def test_header_over_16_mib() -> None:
    with pytest.raises(ArtifactError, match="more than 16 MiB"):
        _native.load(pack(b" " * ((16 << 20) + 8), b""))


# ---- broken plans ----------------------------------------------------------------------------------------------------


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Sets plan[path[0]][path[1]]... = path[-1]."""

    def change(plan: dict[str, Any]) -> None:
        at: Any = plan
        for key in path[:-2]:
            at = at[key]
        at[path[-2]] = path[-1]

    return change


def _del(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(plan: dict[str, Any]) -> None:
        at: Any = plan
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]

    return change


def _overlapping(plan: dict[str, Any]) -> None:
    plan["arena"] = 64 + 8 * N
    plan["tensors"].append(tensor(["arena", 128]))
    plan["steps"].insert(1, eltwise([1, 0, 0, 0], [2], 4))
    plan["steps"][2]["in"] = [4]


def _clobbered(plan: dict[str, Any]) -> None:
    """Tensor 2 is overwritten, in part, before it is read."""
    plan["arena"] = 64 + 8 * N
    plan["tensors"].append(tensor(["arena", 64 + 2 * N]))
    plan["steps"].insert(1, eltwise([1, 0, 0, 0], [0], 4))


def _crowded(plan: dict[str, Any]) -> None:
    """Each of very many steps overwrites very many views: the check of that would take minutes."""
    plan["tensors"] = plan["tensors"][:2] + [tensor(["arena", 0], [])] * 120000 + plan["tensors"][3:]
    plan["outputs"][0]["tensor"] = 120002
    plan["steps"] = [{"family": "python", "in": [], "out": [2], "attrs": {}}] * 40000


def _twice(plan: dict[str, Any]) -> None:
    plan["steps"][0]["out"] = [2, 2]


PLANS: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("no version", _del("version"), "no integer 'version'"),
    ("version text", _set("version", "1"), "no integer 'version'"),
    ("version 2", _set("version", 2), "plan version 2 is newer than 1"),
    ("version 0", _set("version", 0), "plan version 0 does not exist"),
    ("tree number", _set("tree", 3), "'tree' is not a string"),
    ("no arena", _del("arena"), "'arena' is not an integer"),
    ("arena -1", _set("arena", -1), "'arena' is not an integer from 0"),
    ("arena 2^50", _set("arena", 1 << 50), "'arena' is not an integer from 0"),
    ("no inputs", _del("inputs"), "no list 'inputs'"),
    ("inputs object", _set("inputs", {}), "no list 'inputs'"),
    ("input without name", _del("inputs", 0, "name"), r"inputs\[0\] has no string 'name'"),
    ("input tensor text", _set("inputs", 0, "tensor", "0"), r"inputs\[0\] 'x': 'tensor' is not an index"),
    ("input tensor -1", _set("inputs", 0, "tensor", -1), "'tensor' is not an index"),
    ("input tensor 99", _set("inputs", 0, "tensor", 99), "input 0: tensor 99 of 4"),
    ("input is arena", _set("inputs", 0, "tensor", 2), "input 0: tensor 2 is not placed there"),
    ("output is input", _set("outputs", 0, "tensor", 0), "output 0: tensor 0 is not placed there"),
    ("no outputs", _set("outputs", []), "plan has no outputs"),
    ("no tensors", _del("tensors"), "no list 'tensors'"),
    ("dtype f16", _set("tensors", 2, "dtype", "f16"), "plan tensor 2: unknown or missing dtype"),
    ("shape text", _set("tensors", 2, "shape", "big"), "plan tensor 2: no list 'shape'"),
    ("plan rank 9", _set("tensors", 2, "shape", [1] * 9), "plan tensor 2: rank 9; at most 8"),
    ("plan dim 0", _set("tensors", 2, "shape", [0]), "plan tensor 2: dimension 0"),
    ("plan dim true", _set("tensors", 2, "shape", [True]), "plan tensor 2: dimension 0"),
    ("plan wraps", _set("tensors", 2, "shape", [1 << 31] * 3), "plan tensor 2: larger than"),
    ("scale 0", _set("tensors", 2, "scale", 0), "'scale' is not a positive finite float32"),
    ("scale -1", _set("tensors", 2, "scale", -1.5), "'scale' is not a positive"),
    ("scale 1e300", _set("tensors", 2, "scale", 1e300), "'scale' is not a positive finite"),
    ("scale 1e-300", _set("tensors", 2, "scale", 1e-300), "'scale' is not a positive finite"),
    ("scale text", _set("tensors", 2, "scale", "1"), "'scale' is not a number"),
    ("zero alone", _set("tensors", 2, "zero", 0), "'zero' without 'scale'"),
    ("zero 2^40", lambda p: p["tensors"][2].update(scale=1.0, zero=1 << 40), "'zero' is not a 32-bit integer"),
    ("zero 200", lambda p: p["tensors"][2].update(dtype="i8", scale=1.0, zero=200), "zero point 200 does not fit i8"),
    ("loc text", _set("tensors", 2, "loc", "arena"), r"'loc' is not \[kind, position\]"),
    ("loc of three", _set("tensors", 2, "loc", ["arena", 64, 0]), "'loc' is not"),
    ("loc disk", _set("tensors", 2, "loc", ["disk", 0]), "unknown place 'disk'"),
    ("loc path", _set("tensors", 1, "loc", ["const", "../../etc/passwd"]), "there is no constant '../../etc/passwd'"),
    ("const number", _set("tensors", 1, "loc", ["const", 0]), "constant's key is not a string"),
    (
        "const short",
        _set("tensors", 1, "shape", [N + 1]),
        "is f32 of 4096 bytes, the plan says f32 of 4100",
    ),
    ("const dtype", _set("tensors", 1, "dtype", "i32"), "constant 'w' is f32 of 4096 bytes, the plan says i32"),
    ("position text", _set("tensors", 2, "loc", ["arena", "0"]), "position in 'loc' is not an integer"),
    ("offset -64", _set("tensors", 2, "loc", ["arena", -64]), "position in 'loc' is not an integer from 0"),
    ("offset 32", _set("tensors", 2, "loc", ["arena", 32]), "offset 32 is not a multiple of 64"),
    ("offset too far", _set("tensors", 2, "loc", ["arena", 128]), "4096 bytes at 128 leave the arena of 4160"),
    ("offset wraps", _set("tensors", 2, "loc", ["arena", (1 << 63) - 64]), "leave the arena"),
    ("input 7", _set("tensors", 0, "loc", ["in", 7]), "plan tensor 0: input 7 of 1"),
    ("output 7", _set("tensors", 3, "loc", ["out", 7]), "plan tensor 3: output 7 of 1"),
    (
        "view of another size",
        lambda p: p["tensors"].append(tensor(["in", 0], [8])),
        "plan tensor 4: 32 bytes in input 0 of 4096 bytes",
    ),
    ("too many tensors", _set("tensors", [0] * 262145), "262145 plan tensors; at most 262144"),
    ("tensor is a number", _set("tensors", 2, 7), "plan tensor 2: unknown or missing dtype"),
    ("too many steps", _set("steps", [0] * 131073), "131073 steps; at most 131072"),
    ("arena too crowded", _crowded, "plan too large: 120000 arena tensors and 40000 step outputs"),
    ("no steps", _del("steps"), "no list 'steps'"),
    ("step text", _set("steps", 0, "step"), "step 0: no lists 'in' and 'out'"),
    ("step without out", _del("steps", 0, "out"), "step 0: no lists"),
    ("step writes nothing", _set("steps", 0, "out", []), "step 0: no outputs"),
    ("65 inputs", _set("steps", 0, "in", [0] * 65), "65 inputs and 1 outputs; at most 64"),
    ("input -2", _set("steps", 0, "in", [-2, 1]), "step 0: input 0 is not the index of a tensor"),
    ("step input 9", _set("steps", 0, "in", [0, 9]), "step 0: input 1 is not the index"),
    ("step input 2^32", _set("steps", 0, "in", [1 << 32, 1]), "step 0: input 0 is not the index"),
    ("absent output", _set("steps", 0, "out", [-1]), "step 0: output 0 is not the index"),
    ("no family", _del("steps", 0, "family"), "step 0: no string 'family'"),
    ("name number", _set("steps", 0, "name", 1), "step 0: 'name' is not a string"),
    ("no attrs", _del("steps", 0, "attrs"), "step 0: no object 'attrs'"),
    ("attrs list", _set("steps", 0, "attrs", []), "step 0: no object 'attrs'"),
    ("read before write", lambda p: p["steps"].reverse(), "step 0: input 0 .tensor 2. is read before it is written"),
    ("read overwritten", _clobbered, "step 2: input 0 .tensor 2. is read before it is written, or was overwritten"),
    ("write to input", _set("steps", 0, "out", [0]), "step 0: output 0 is an input of the model"),
    ("write to constant", _set("steps", 0, "out", [1]), "step 0: output 0 is a constant"),
    ("overlap in and out", _overlapping, "step 1: output 0 overlaps input 0"),
    ("same output twice", _twice, "step 0: outputs 0 and 1 overlap"),
    ("output unwritten", lambda p: p["steps"].pop(), "output 0 'y' is written by no step"),
    ("attr missing", _del("steps", 0, "attrs", "imm"), r"step 0 \(eltwise, 'bias'\).*imm"),
    ("attr of text", _set("steps", 0, "attrs", "code", "x"), "step 0 .*attribute 'code'"),
]


@pytest.mark.parametrize(("change", "message"), [p[1:] for p in PLANS], ids=[p[0] for p in PLANS])
def test_broken_plan(change: Callable[[dict[str, Any]], None], message: str) -> None:
    plan = copy.deepcopy(small_plan())
    change(plan)
    with pytest.raises(ArtifactError, match=message):
        _native.load(artifact(plan))
    with pytest.raises(ArtifactError, match=message):  # the same checks without a file
        _native.load_plan(json.dumps(plan), small_consts())


def test_in_place_and_views_are_fine() -> None:
    plan = small_plan()
    plan["tensors"] += [tensor(["arena", 64]), tensor(["arena", 64], [2, N // 2])]
    plan["steps"].insert(1, eltwise([1, 0, 0, 0], [2], 4))  # in place
    plan["steps"][2]["in"] = [4]
    (y,) = _native.load_plan(json.dumps(plan), small_consts()).run([X])
    np.testing.assert_array_equal(y, reference(X))


def test_plan_text_is_checked() -> None:
    for text, message in (
        ("", "unexpected end"),
        ("nul", "unknown word"),
        ("[1,]", "expected a value"),
        ('{"a":1,"a":2}', "duplicate key 'a'"),
        ('{"a":1}x', "text after the end"),
        ('{"a":01}', "leading zero"),
        ('{"a":1.}', "digits after"),
        ('{"a":1e999}', "number out of range"),
        ('{"a":"\\ud800"}', "lone surrogate"),
        ('{"a":"\\u0000"}', "NUL in a string"),
        ('{"a":"\n"}', "control character"),
        ('{"a":"\\x"}', "unknown escape"),
        ('{"a":"b', "unterminated string"),
        ("{,}", "expected a key"),
        ("[1 2]", "expected ','"),
        ("[" * 100, "nested too deeply"),
        ("[]", "plan is not an object"),
    ):
        with pytest.raises(ArtifactError, match=message):
            _native.load_plan(text, {})


def test_invalid_utf8_in_a_name() -> None:
    tensors = plan_tensors(small_plan(), small_consts())
    text = json.dumps(header_of(tensors), separators=(",", ":")).encode()
    data = b"".join(a.tobytes() for a in tensors.values())
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"):
        with pytest.raises(ArtifactError, match="invalid UTF-8"):
            _native.load(pack(text.replace(b'"w"', b'"' + bad + b'"', 1), data))


def test_message_cut_within_a_character() -> None:
    for pad in range(3):
        plan = small_plan()
        plan["tensors"][1]["loc"] = ["const", "x" * pad + "\N{SNOWMAN}" * 100]
        with pytest.raises(ArtifactError, match=r"there is no constant '.*\u2603"):
            _native.load(artifact(plan))


def test_unknown_family_is_named() -> None:
    plan = small_plan()
    plan["steps"][0]["family"] = "quantum"
    with pytest.raises(RuntimeFailure, match=r"step 0 \(quantum, 'bias'\): this build has no kernel family"):
        _native.load(artifact(plan))


def test_constants_must_fit() -> None:
    plan = json.dumps(small_plan())
    w = small_consts()["w"]
    for bad, message in (
        ({"w": w.tolist()}, "not a NumPy array"),
        ({"w": np.zeros(2 * N, np.float32)[::2]}, "not C-contiguous"),
        ({"w": w.astype(np.float16)}, "has dtype float16"),
        ({"w": np.zeros(0, np.float32)}, "empty or too large"),
    ):
        with pytest.raises(InputError, match=message):
            _native.load_plan(plan, bad)  # type: ignore[arg-type]


def test_checksum_is_xxh64() -> None:
    # Values of the reference implementation (xxhash 0.8).
    assert _native.xxh64(b"") == 0xEF46DB3751D8E999
    assert _native.xxh64(b"a") == 0xD24EC4F1A98C6E5B
    assert _native.xxh64(b"abc") == 0x44BC2CF5AD770999
    data = bytes(range(256)) * 3
    whole = _native.xxh64(data)
    assert all(_native.xxh64(data[:n], data[n:]) == whole for n in range(0, len(data), 7))


def test_plan_limits_hold() -> None:
    plan = small_plan()
    plan["steps"][0]["in"] = [0, 1]
    plan["inputs"] = [{"name": "x", "tensor": 0}] * 4097
    with pytest.raises(ArtifactError, match="4097 inputs; at most 4096"):
        _native.load_plan(json.dumps(plan), small_consts())
    assert ADD == 32  # the code that small_plan uses; ops.inc must not renumber it
