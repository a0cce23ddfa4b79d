"""Other engines in an arm64 Python that the emulator runs: tests/deploy/make_root.py and their wheels."""

from __future__ import annotations

from pathlib import Path

from tests.deploy import make_root
from tests.deploy.make_root import PYTHON, RootError, site_packages

WHEELS = ("ai-edge-litert==2.3.0", "onnxruntime==1.31.1")

# What the engines' CPU probes read instead of asking the kernel: part number and features of each emulated core.
_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_V82 = f"{_BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
CORES = {
    "cortex-a53": (0xD03, _BASE),
    "cortex-a76": (0xD0B, _V82),
    "max,sve=off": (0xD49, f"{_V82} i8mm bf16"),  # the part number of Neoverse N2, which has i8mm
}


def setup(root: Path) -> None:
    """Makes the folder, unless it is there and complete."""
    make_root.make_root(root.resolve(), list(WHEELS))


def write_cpuinfo(root: Path, cpu: str) -> None:
    """An Arm /proc/cpuinfo and sysfs for two cores of `cpu`: some libraries parse the host's and give up."""
    if cpu not in CORES:
        raise RootError(f"no description of {cpu!r}; known: {', '.join(CORES)}")
    part, features = CORES[cpu]
    fields = {"BogoMIPS": "100.00", "Features": features, "CPU implementer": "0x41", "CPU architecture": "8",
              "CPU variant": "0x1", "CPU part": f"{part:#x}", "CPU revision": "0"}  # fmt: skip
    text = ""
    for core in range(2):
        text += f"processor\t: {core}\n" + "".join(f"{key}\t: {value}\n" for key, value in fields.items()) + "\n"
        base = root / f"sys/devices/system/cpu/cpu{core}"
        for name, value in (
            ("topology/physical_package_id", "0"),
            ("topology/core_id", str(core)),
            ("topology/core_siblings_list", "0-1"),
            ("topology/package_cpus_list", "0-1"),
            ("topology/cluster_cpus_list", "0-1"),
            ("cpufreq/cpuinfo_max_freq", "2000000"),
            ("cpufreq/cpuinfo_min_freq", "500000"),
        ):
            _write(base / name, value + "\n")
    for name, value in (("possible", "0-1"), ("present", "0-1"), ("kernel_max", "255")):
        _write(root / "sys/devices/system/cpu" / name, value + "\n")
    _write(root / "proc/cpuinfo", text)


def installed(root: Path) -> dict[str, str]:
    """Name -> version of the wheels in the folder."""
    infos = sorted(site_packages(root).glob("*.dist-info"))
    return dict(info.name.removesuffix(".dist-info").replace("_", "-").rsplit("-", 1) for info in infos)


def python_command(root: Path) -> list[str]:
    """The arguments that follow the emulator's own: ``-L ROOT python``."""
    python = root / "usr/bin" / PYTHON
    if not python.exists():
        raise RootError(f"{root} holds no arm64 Python; make it with: python bench/arm64.py setup {root}")
    return ["-L", str(root), str(python)]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
