"""An arm64 Python root for the emulator: a folder with Python, NumPy and other engines, as aarch64 packages and wheels.

It takes neither chroot nor binfmt nor the rights of root: Debian's arm64 packages are unpacked (not installed) into a
folder, wheels beside them, and ``qemu-aarch64 -L ROOT ROOT/usr/bin/python3`` runs from it.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

DEBIAN = ("python3", "libpython3-dev", "libstdc++6", "libgomp1")
WHEELS = ("numpy==2.4.6", "ai-edge-litert==2.3.0", "onnxruntime==1.31.1")  # the peers of bench/arm64.py

# What the engines' CPU probes read instead of asking the kernel: part number and features of each emulated core.
_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_V82 = f"{_BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
CORES = {
    "cortex-a53": (0xD03, _BASE),
    "cortex-a76": (0xD0B, _V82),
    "max,sve=off": (0xD49, f"{_V82} i8mm bf16"),  # the part number of Neoverse N2, which has i8mm
}


class RootError(Exception):
    """The root can't be made or used; the message says what was missing."""


def make_root(root: Path, wheels: tuple[str, ...] = WHEELS) -> None:
    """Makes (or completes) the root: arm64 packages of this machine's Debian sources, then the wheels."""
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "usr/bin/python3").exists():
        _unpack_debian(root)
    _unpack_wheels(root, wheels)
    write_cpuinfo(root, "cortex-a76")


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
    """Name -> version of the wheels unpacked in the root."""
    infos = _site(root).glob("*.dist-info")
    return dict(info.name.removesuffix(".dist-info").replace("_", "-").rsplit("-", 1) for info in infos)


def python_command(root: Path) -> list[str]:
    """The arguments that follow the emulator's own: ``-L ROOT python``."""
    if not (root / "usr/bin/python3").exists():
        raise RootError(f"{root} holds no arm64 Python; make it with: bench/arm64.py setup {root}")
    return ["-L", str(root), str(root / "usr/bin/python3")]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _unpack_debian(root: Path) -> None:
    """With an apt state of its own in which nothing is installed, so that every dependency is fetched."""
    apt = root / "var/apt"
    for folder in ("state/lists/partial", "cache/archives/partial", "log"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    (apt / "state/status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State": f"{apt}/state",
        "Dir::State::status": f"{apt}/state/status",
        "Dir::Cache": f"{apt}/cache",
        "Dir::Log": f"{apt}/log",
        "Binary::apt::APT::Keep-Downloaded-Packages": "true",
    }
    flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    _run(["apt-get", *flags, "-q", "update"])
    _run(["apt-get", *flags, "-q", "-y", "--no-install-recommends", "--download-only", "install", *DEBIAN])
    debs = sorted((apt / "cache/archives").glob("*.deb"))
    if not debs:
        raise RootError("apt-get downloaded no arm64 package; do this machine's Debian sources offer arm64?")
    for deb in debs:
        _run(["dpkg", "-x", str(deb), str(root)])


def _unpack_wheels(root: Path, wheels: tuple[str, ...]) -> None:
    site, store = _site(root), root / "var/wheels"
    version = site.parent.name.removeprefix("python")
    tags = ["--only-binary=:all:", "--python-version", version, "--implementation", "cp"]
    for abi in (f"cp{version.replace('.', '')}", "abi3", "none"):
        tags += ["--abi", abi]
    for glibc in ("2_28", "2_27", "2_17"):
        tags += ["--platform", f"manylinux_{glibc}_aarch64"]
    tags += ["--platform", "manylinux2014_aarch64"]
    for wheel in wheels:
        _run([sys.executable, "-m", "pip", "download", "-q", *tags, "-d", str(store), wheel])
    site.mkdir(parents=True, exist_ok=True)
    for path in sorted(store.glob("*.whl")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(site)


def _site(root: Path) -> Path:
    """Where the root's Python looks for wheels: ``/usr/local/lib/python3.N/dist-packages`` (Debian's layout)."""
    found = sorted((root / "usr/lib").glob("python3.*"))
    if not found:
        raise RootError(f"{root} holds no arm64 Python; make it with: bench/arm64.py setup {root}")
    return root / "usr/local/lib" / found[-1].name / "dist-packages"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise RootError(f"{command[0]} is not installed") from None
    if done.returncode:
        raise RootError(f"{' '.join(command)}\nexit status {done.returncode}\n{done.stderr[-2000:]}")
