"""The machines that the tests of this folder run on, and why they are not there where they are not."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

_CPU = """BogoMIPS	: 108.00
Features	: {}
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: {}
CPU part	: {}
CPU revision	: {}
"""
#: /proc/cpuinfo of one core, by QEMU's name: Raspberry Pi 4 and 5
CPUS = {
    "cortex-a72": _CPU.format("fp asimd evtstrm crc32 cpuid", "0x0", "0xd08", 3),
    "cortex-a76": _CPU.format(
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp", "0x4", "0xd0b", 1
    ),
}

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamrnn-boards"
#: what `install.py` could not do
WHY_NOT = CACHE / "why-not"
_MADE_OF = [(HERE / "install.py").read_text(), repr(CPUS), *(version(n) for n in ("numba", "llvmlite", "numpy", "onnxruntime"))]
#: the aarch64 Python: root/, site/ and for each CPU a view of root/ with a /proc/cpuinfo
GUEST = CACHE / f"aarch64-{hashlib.sha256(repr(_MADE_OF).encode()).hexdigest()[:12]}"


def need(*programs: str) -> None:
    """Skip the test where one of these programs is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed ({_reason()})")


def need_module(*names: str) -> None:
    """Skip the test where one of these packages is not installed."""
    for name in names:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed (run `make emulators`)")


def need_guest() -> None:
    """Skip the test where there is no aarch64 Python."""
    need("qemu-aarch64-static")
    if not GUEST.exists():
        pytest.skip(f"there is no aarch64 Python ({_reason()})")


def _reason() -> str:
    return WHY_NOT.read_text() if WHY_NOT.exists() else "run `make emulators`"


def guest_python(folder: Path, cpu: str, path: str, **env: str) -> Path:
    """A command that is an aarch64 Python on this CPU, also for the processes that it starts itself.

    folder: where to put it. path: PYTHONPATH, before the guest's own packages.
    """
    need_guest()
    command = folder / f"python-{cpu}"
    settings = {"PYTHONPATH": f"{path}:{GUEST / 'site'}", "PYTHONHOME": str(GUEST / "root" / "usr"), **env}
    lines = ["#!/bin/sh", *(f"export {name}='{value}'" for name, value in settings.items())]
    python = GUEST / "root" / "usr" / "bin" / "python3.11"
    lines.append(f"exec qemu-aarch64-static -cpu {cpu} -L '{GUEST / cpu}' -0 '{command}' '{python}' -B \"$@\"")
    command.write_text("\n".join(lines) + "\n")
    command.chmod(0o755)
    return command


def output_of(*command: str | Path, cwd: Path | None = None, timeout: float = 900) -> str:
    """What a command prints. Fails the test with what it says where it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
