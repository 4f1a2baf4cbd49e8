"""The peers from PyPI, one module each: a `Peer` says whether it is installed and runs cells, each in its quickest way.

One thread everywhere: what peers read from the environment is set here, before any of them is imported.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from suite.cells import CellCase, Session

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")

#: module, package on PyPI
PEERS = {
    "onnxruntime": "onnxruntime",
    "tract": "tract",
    "openvino": "openvino",
    "litert": "ai-edge-litert",
    "ncnn": "ncnn",
    "torch": "torch",
}


class Peer(Protocol):
    """What a module of this package offers."""

    def ways(self, case: CellCase, weights: str) -> dict[str, Session]:
        """Sessions by name ("onnxruntime", "onnxruntime run"): one call is `case.steps` frames of `case.batch` streams.

        weights: "f32", "f16" or "int8". Raises UnsupportedCaseError.
        """


def installed(names: list[str]) -> tuple[dict[str, Peer], dict[str, str], dict[str, str]]:
    """The peers that import, the versions of their packages, and why the others do not."""
    found: dict[str, Peer] = {}
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            versions[name] = version(PEERS[name])
            found[name] = import_module(f"suite.peers.{name}_peer")
        except PackageNotFoundError:
            missing[name] = f"not installed (pip install {PEERS[name]})"
        except ImportError as error:
            missing[name] = f"{PEERS[name]} {versions.pop(name)} does not import: {error}"
    return found, versions, missing
