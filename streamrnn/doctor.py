"""What this machine and this installation have."""

from __future__ import annotations

import importlib.util
import platform
import sys
from dataclasses import dataclass

from streamrnn.codegen.build import host
from streamrnn.codegen.cache import SUFFIXES, cache_folder
from streamrnn.versions import compilers

#: widest vector of a CPU that has the feature (bits), the widest first
_WIDTHS = (("avx512f", 512), ("avx2", 256), ("avx", 256), ("neon", 128), ("sse2", 128))
_TELLING = ("avx512f", "avx512_vnni", "avx2", "fma", "f16c", "neon", "dotprod", "sve")
#: optional part -> (module that it brings, extra)
OPTIONAL = {
    "import of ONNX files": ("onnx", "convert"),
    "validation": ("onnxruntime", "convert"),
    "wav files": ("soundfile", "audio"),
    "sound card": ("sounddevice", "audio"),
    "pictures": ("matplotlib", "plot"),
    "training examples": ("torch", "train"),
}


@dataclass(frozen=True)
class Health:
    """simd_bits: width of the widest vector. parts: version of each optional part, "" where it is not installed."""

    versions: dict[str, str]
    cpu: str
    features: list[str]
    simd_bits: int
    cache: str
    cached_models: int
    cached_kernels: int
    cache_bytes: int
    parts: dict[str, str]


def examine() -> Health:
    """Look at CPU, versions, cache and optional parts; nothing is compiled or imported that is heavy."""
    cpu, flags = host()
    features = {flag[1:] for flag in flags.split(",") if flag.startswith("+")}
    if platform.machine() in ("aarch64", "arm64"):
        features.add("neon")
    folder = cache_folder()
    objects, kernels, engines = (list(folder.glob(f"*{suffix}")) for suffix in SUFFIXES)
    versions = {"python": platform.python_version()}
    versions |= {name: _version(name) for name in ("streamrnn", "numpy")}
    versions |= {name: compilers().get(name, "not installed") for name in ("numba", "llvmlite")}
    return Health(
        versions=versions,
        cpu=f"{cpu} ({platform.machine()}, {sys.platform})",
        features=[name for name in _TELLING if name in features],
        simd_bits=next((bits for name, bits in _WIDTHS if name in features), 32),
        cache=str(folder),
        cached_models=len(objects),
        cached_kernels=len(kernels),
        cache_bytes=sum(path.stat().st_size for path in (*objects, *kernels, *engines)),
        parts={what: _version(module) for what, (module, _) in OPTIONAL.items()},
    )


def _version(module: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # 10 ms, and every command imports this file

    if importlib.util.find_spec(module) is None:
        return ""
    try:
        return version(module)
    except PackageNotFoundError:
        return "present"
