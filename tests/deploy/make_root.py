"""Makes a folder with a 64-bit Arm Python that an emulator runs: Debian's arm64 packages and aarch64 wheels, unpacked.

    python tests/deploy/make_root.py build/arm64-root [more packages of the Python index]
    qemu-aarch64 -L build/arm64-root build/arm64-root/usr/bin/python3.11 -c 'import numpy'

It also serves cross builds of the wheel (``IRKIT_CROSS_ROOT``), which need arm64 Python headers. Nothing is installed:
apt works in folders of its own (its signatures and checksums hold), on the Debian sources this machine has. A folder
that is complete is left as it is; one that is not is made anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

PYTHON = f"python3.{sys.version_info.minor}"
DEBS = (PYTHON, f"lib{PYTHON}-dev", "libstdc++6", "libgomp1")
WHEELS = ("numpy", "networkx", "rich", "typer", "pytest")  # what irkit imports to load and run artifacts, and its tests
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64")
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
TARGETS = "$(ORIGIN)\t$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)"


class RootError(Exception):
    """The folder can't be made here; the message says why."""


def run(command: list[str]) -> str:
    """Output of a command; RootError with its last lines when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise RootError(f"{command[0]} is not installed (this needs Debian's apt and dpkg)") from None
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise RootError(f"{' '.join(command[:2])} failed:\n{last}")
    return done.stdout


def debian_sources() -> str:
    """This machine's Debian sources, for arm64."""
    rows = [line.split("\t") for line in run(["apt-get", "indextargets", "--format", TARGETS]).splitlines()]
    found = sorted({tuple(r[1:]) for r in rows if r[0] == "Debian"})
    if not found:
        raise RootError("apt knows no Debian source (has `apt-get update` run?)")
    options = f"arch=arm64 signed-by={KEYS}" if Path(KEYS).exists() else "arch=arm64"
    return "".join(f"deb [{options}] {uri} {suite} {part}\n" for uri, suite, part in found)


def unpack_debs(root: Path, work: Path) -> list[str]:
    """Download DEBS with all they depend on and unpack them; the packages' file names."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(debian_sources())
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "APT::Update::Post-Invoke": "",
        "Acquire::Languages": "none",
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
    }
    (work / "apt.conf").write_text("".join(f'{k} "{v}";\n' for k, v in settings.items()))
    apt = ["apt-get", "-q", *(f"-o{k}={v}" for k, v in settings.items())]
    run([*apt, "update"])
    run([*apt, "install", "-y", "--no-install-recommends", "--download-only", *DEBS])
    debs = sorted((work / "cache/archives").glob("*.deb"))
    if not debs:
        raise RootError("apt downloaded nothing")
    for deb in debs:
        run(["dpkg-deb", "-x", str(deb), str(root)])
    return [d.name for d in debs]


def site_packages(root: Path) -> Path:
    """Where the folder's Python looks for packages."""
    return root / "usr/local/lib" / PYTHON / "dist-packages"


def unpack_wheels(root: Path, work: Path, packages: list[str]) -> list[str]:
    """Download packages, in this Python's versions where it has them, and unpack them; the wheels' file names."""
    wanted = []
    for p in packages:
        try:
            wanted.append(p if "=" in p else f"{p}=={metadata.version(p)}")
        except metadata.PackageNotFoundError:
            wanted.append(p)
    tags = [f"--platform={p}" for p in PLATFORMS] + [f"--abi={a}" for a in (f"cp{PYTHON[6:].replace('.', '')}",)]
    run([
        sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--dest", str(work / "wheels"),
        f"--python-version={PYTHON.removeprefix('python')}", "--implementation=cp", "--abi=abi3", "--abi=none",
        *tags, *wanted,
    ])  # fmt: skip
    wheels = sorted((work / "wheels").glob("*.whl"))
    for w in wheels:
        install_wheel(w, root)
    return [w.name for w in wheels]


def install_wheel(wheel: Path, root: Path) -> None:
    """Unpack a wheel into the folder's packages."""
    site = site_packages(root)
    site.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as z:
        z.extractall(site)


def make_root(root: Path, extra: list[str] | None = None) -> Path:
    """The folder, made unless it is there and complete. RootError when that is impossible on this machine."""
    asked = {"debs": list(DEBS), "wheels": [*WHEELS, *(extra or [])]}
    stamp = root / "made-of.json"
    if stamp.exists() and json.loads(stamp.read_text())["asked"] == asked:
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        with tempfile.TemporaryDirectory() as work:
            debs = unpack_debs(new, Path(work))
            wheels = unpack_wheels(new, Path(work), asked["wheels"])
        (new / stamp.name).write_text(json.dumps({"asked": asked, "debs": debs, "wheels": wheels}, indent=1))
        new.chmod(0o755)
        if root.exists():
            shutil.rmtree(root)
        os.replace(new, root)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return root


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        made = make_root(Path(sys.argv[1]).resolve(), sys.argv[2:])
    except RootError as e:
        sys.exit(f"make_root: {e}")
    print(f"{made}: {made / 'usr/bin' / PYTHON}")
