"""What the tests in this folder run on: Debian's emulators, compiler for Cortex-M and browser, and an aarch64 Python.

    python tests/boards/install.py          needs root on a Debian system; `make emulators`

Where that is not so, or a package cannot be had, it says so, and the tests that need it skip with that reason. The aarch64
Python is a folder of the user's cache (`machines.GUEST`), with the host's own versions of all packages; it is made once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from machines import CACHE, CPUS, GUEST, WHY_NOT

#: of Debian, for this machine
_PROGRAMS = (
    "qemu-user-static", "qemu-system-arm", "chromium", "chromium-driver", "gcc-arm-none-eabi", "libnewlib-arm-none-eabi",
    "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross",
    "gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross", "llvm",
)  # fmt: skip
#: of Debian, for the aarch64 Python
_LIBRARIES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
#: of PyPI, in the versions that are installed here; what they need comes along
_PACKAGES = ("numba", "llvmlite", "numpy", "onnx", "onnxruntime", "safetensors", "typer", "rich")
_GLIBC = ("2_28", "2_27", "2_26", "2_24", "2_17")


class NotHereError(Exception):
    """Why something cannot be installed."""


def run(*command: str | Path, **env: str) -> None:
    """Raises NotHereError, with the end of what the command printed."""
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing said"]
        raise NotHereError(f"{' '.join(map(str, command[:3]))} failed: {said[-1]}")


def install_packages() -> None:
    """Debian's packages on this machine."""
    if shutil.which("apt-get") is None:
        raise NotHereError("this is no Debian system (there is no apt-get)")
    if subprocess.run(("dpkg-query", "-W", *_PROGRAMS), capture_output=True, check=False).returncode == 0:
        return
    if os.geteuid() != 0:
        raise NotHereError(f"installing needs root: apt-get install {' '.join(_PROGRAMS)}")
    print("installing", *_PROGRAMS, flush=True)
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *_PROGRAMS, DEBIAN_FRONTEND="noninteractive")


def make_guest(folder: Path) -> None:
    """An aarch64 Python in a folder: Debian's, unpacked, and wheels of PyPI."""
    apt = folder / "apt"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    options = [f"APT::Architecture{s}=arm64" for s in ("", "s")]
    options += [f"Dir::State={apt}/state", f"Dir::Cache={apt}/cache", f"Dir::State::status={apt}/status", "Debug::NoLocking=1"]
    configured = [word for option in options for word in ("-o", option)]
    run("apt-get", *configured, "update", "-qq")
    run("apt-get", *configured, "install", "-y", "-qq", "--no-install-recommends", "--download-only", *_LIBRARIES)
    for package in (apt / "cache" / "archives").glob("*.deb"):
        run("dpkg", "-x", package, folder / "root")
    shutil.rmtree(apt)
    glibc = [word for v in _GLIBC for word in ("--platform", f"manylinux_{v}_aarch64")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
    abi = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none"]
    wanted = [f"{name}=={version(name)}" for name in _PACKAGES]
    run(*pip, "--target", folder / "site", *abi, *glibc, "--platform", "manylinux2014_aarch64", "--platform", "any", *wanted)
    for name, cpu in CPUS.items():
        # without this file of its own LLVM and onnxruntime would read the host's, and find no ARM features in it
        (folder / name / "proc").mkdir(parents=True)
        (folder / name / "proc" / "cpuinfo").write_text("".join(f"processor\t: {k}\n{cpu}\n" for k in range(4)))
        for part in ("lib", "usr"):
            (folder / name / part).symlink_to(Path("..", "root", part))


def main() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    WHY_NOT.unlink(missing_ok=True)
    try:
        install_packages()
        if not GUEST.exists():
            print(f"making an aarch64 Python: {GUEST}", flush=True)
            made = Path(tempfile.mkdtemp(dir=CACHE))
            try:
                make_guest(made)
                made.rename(GUEST)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    except NotHereError as reason:
        WHY_NOT.write_text(str(reason))
        print(f"the tests of boards that need it will be skipped: {reason}", flush=True)


if __name__ == "__main__":
    main()
