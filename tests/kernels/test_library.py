"""The library as others build and link it: size, symbols, C99, installation, compilers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.builds import MACHINES, ROOT, machine, needs_arm64
from tests.kernels.artifacts import artifact

TOOLS = {"native": "", "arm64": "aarch64-linux-gnu-"}
pytestmark = pytest.mark.slow


def output(*command: str | Path) -> str:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout


@needs_arm64
def test_size_on_arm64(tmp_path: Path) -> None:
    """All kernels in 400 kB of code, irkit-run as one static file in 1 MB (a million bytes)."""
    folder = machine("arm64")
    objects = [p for p in folder.glob("CMakeFiles/irkit_objects.dir/*/*.o") if re.match("scalar|neon", p.name)]
    assert len(objects) > 40
    text = [line.split() for line in output("aarch64-linux-gnu-size", *objects).splitlines()[1:]]
    assert sum(int(row[0]) for row in text) <= 400_000
    output("aarch64-linux-gnu-strip", "-o", tmp_path / "irkit-run", folder / "irkit-run")
    assert (tmp_path / "irkit-run").stat().st_size <= 1_000_000
    assert "INTERP" not in output("aarch64-linux-gnu-readelf", "-l", tmp_path / "irkit-run")


@pytest.mark.parametrize("name", MACHINES)
def test_needs_no_cpp_library_and_exports_the_c_api_only(name: str) -> None:
    folder, nm = machine(name), f"{TOOLS[name]}nm"
    wanted = {line.split()[-1] for line in output(nm, "-u", folder / "libirkit.a").splitlines() if " U " in line}
    cpp = {s for s in wanted if s.startswith(("_Z", "__cxa", "__gxx", "_Unwind"))}
    assert all("3irk" in s for s in cpp) and "malloc" in wanted
    exported = {line.split()[-1] for line in output(nm, "-D", "--defined-only", folder / "libirkit.so").splitlines()}
    header = (ROOT / "kernels/include/irkit.h").read_text()
    assert exported == set(re.findall(r"IRK_API [\w* ]+?\b(irk_\w+)\(", header))
    libraries = set(re.findall(r"NEEDED.*\[(.*)\]", output(f"{TOOLS[name]}readelf", "-d", folder / "libirkit.so")))
    assert libraries <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2"}


C99 = """
#include <irkit.h>
#include <stdio.h>

int main(int argc, char** argv) {
  irk_model* m;
  irk_error err;
  irk_memory use;
  float x[1024] = {0}, y[1024];
  const void* in[] = {x};
  void* out[] = {y};
  const size_t bytes[] = {sizeof x};
  if (argc != 2 || irk_load_file(argv[1], NULL, &m, &err)) return 1;
  if (irk_memory_use(m, &use, &err) || irk_run(m, in, bytes, 1, out, bytes, 1, &err)) return 2;
  if (irk_load_file(NULL, NULL, &m, &err) != IRK_BAD_INPUT || irk_run(NULL, in, bytes, 1, out, bytes, 1, &err) != 3)
    return 3;
  printf("%s %s %g\\n", irk_version(), irk_code_name(err.code), (double)y[1023]);
  irk_free(m);
  return 0;
}
"""


@pytest.mark.parametrize("library", ["libirkit.a", "libirkit.so"])
def test_c99_program(library: str, tmp_path: Path) -> None:
    """A C compiler, libm and pthread are all it takes."""
    (tmp_path / "main.c").write_text(C99)
    (tmp_path / "m.irk").write_bytes(artifact())
    folder = machine("native")
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    links = [folder / library, f"-Wl,-rpath,{folder}", "-lm", "-pthread", "-o", tmp_path / "main"]
    output("cc", *strict, f"-I{ROOT}/kernels/include", tmp_path / "main.c", *links)
    assert output(tmp_path / "main", tmp_path / "m.irk").split() == ["0.1.0", "bad", "input", "1"]


def test_installed(tmp_path: Path) -> None:
    """What cmake --install leaves is enough to build and run a program with."""
    output("cmake", "--install", machine("native"), "--prefix", tmp_path / "usr")
    (tmp_path / "main.c").write_text(C99)
    (tmp_path / "m.irk").write_bytes(artifact())
    lib = tmp_path / "usr/lib"
    flags = ["-lirkit", f"-Wl,-rpath,{lib}", "-o", tmp_path / "main"]
    output("cc", f"-I{tmp_path}/usr/include", tmp_path / "main.c", f"-L{lib}", *flags)
    assert output(tmp_path / "main", tmp_path / "m.irk").startswith("0.1.0 ")
    assert "Version: 0.1.0" in (lib / "pkgconfig/irkit.pc").read_text()
    assert output(tmp_path / "usr/bin/irkit-run", tmp_path / "m.irk", "--describe")


CONSUMER = """cmake_minimum_required(VERSION 3.22)
project(consumer C)
find_package(irkit 0.1 REQUIRED)
foreach(kind static shared)
  add_executable(with_${kind} main.c)
  target_link_libraries(with_${kind} PRIVATE irkit::${kind})
endforeach()
"""


def test_found_by_cmake(tmp_path: Path) -> None:
    """find_package(irkit) gives irkit::static and irkit::shared; the shared library is found by its SONAME."""
    output("cmake", "--install", machine("native"), "--prefix", tmp_path / "usr")
    (tmp_path / "main.c").write_text(C99)
    (tmp_path / "CMakeLists.txt").write_text(CONSUMER)
    (tmp_path / "m.irk").write_bytes(artifact())
    build = tmp_path / "build"
    output("cmake", "-S", tmp_path, "-B", build, f"-DCMAKE_PREFIX_PATH={tmp_path}/usr")
    output("cmake", "--build", build)
    for kind in ("static", "shared"):
        assert output(build / f"with_{kind}", tmp_path / "m.irk").startswith("0.1.0 ")
    assert "NEEDED               libirkit.so.0" in output("objdump", "-p", build / "with_shared")
