"""The build backend: that of setuptools, and in a wheel the kernels' bitcode, for which building one needs Numba.

An sdist and an editable install are what setuptools makes of them: kernels are compiled on demand there.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  the hooks that stay as they are
from setuptools.command.build_py import build_py

_NEEDED = ("numba", "numpy")


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What pip installs before it builds a wheel."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    needed = [text for text in project["dependencies"] if text.startswith(_NEEDED)]
    return [*build_meta.get_requires_for_build_wheel(config_settings), *needed]


class BuildPy(build_py):
    """Copies the modules, then compiles the kernels of the copy into it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib).absolute()
            archive = folder / "streamrnn" / "kernels" / "ir.zip"
            self.announce("compiling the kernels (a minute or two)", level=2)
            subprocess.run([sys.executable, "-m", "streamrnn.codegen.archive", str(archive)], cwd=folder, check=True)
