"""Import direction: a module imports only from layers below its own, and the runtime never from the converters."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: lowest first; a module may import from its own layer and from those before it
LAYERS = (
    ("errors", "files", "memory", "versions", "ir", "kernels"),
    ("ops",),
    ("layout", "plan", "access", "scratch", "groups", "blocks", "emit", "planner", "lanes"),
    ("codegen",),
    ("engine", "snapshot", "ports", "calls", "stream", "pool", "pool_calls", "pool_memory"),
    ("export", "bench", "doctor", "demo", "rate", "resample"),
    ("cli",),
)
#: the only places of the runtime that name the converters, inside functions
BRIDGES = {"engine.py"}
#: within the lowest layer: kernels and errors know nothing of ir
FORBIDDEN = {
    "kernels": {"ir"},
    "errors": {"ir", "kernels", "files", "memory"},
    "files": {"ir", "kernels"},
    "memory": {"ir", "kernels"},
}


def layer(part: str) -> int:
    for index, parts in enumerate(LAYERS):
        if part in parts:
            return index
    raise AssertionError(f"streamrnn.{part} belongs to no layer")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, whether at the top level) of every import that is not for the type checker alone."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((f"{node.module}.{alias.name}", top) for alias in node.names)


RUNTIME = sorted((ROOT / "streamrnn").rglob("*.py"))
CONVERTERS = sorted((ROOT / "converters").rglob("*.py"))


@pytest.mark.parametrize("path", RUNTIME, ids=lambda p: str(p.relative_to(ROOT)))
def test_runtime_modules_import_only_from_below(path: Path) -> None:
    inside = path.relative_to(ROOT / "streamrnn").parts
    own = inside[0].removesuffix(".py")
    for module, top in imports(path):
        parts = module.split(".")
        if parts[0] in ("onnx", "onnxruntime", "torch"):
            pytest.fail(f"the runtime imports {module}")
        if parts[0] == "streamrnn_converters":
            assert own == "cli" or path.name in BRIDGES, f"{path.name} names the converters"
            assert not top, f"{path.name} imports the converters at the top"
        if parts[0] == "streamrnn" and own != "__init__" and len(parts) > 2:
            assert layer(parts[1]) <= layer(own), f"{own} imports upwards: {module}"
            assert parts[1] not in FORBIDDEN.get(own, set()), f"{own} imports sideways: {module}"


@pytest.mark.parametrize("path", CONVERTERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_converters_import_only_the_ir_the_ops_and_the_public_api(path: Path) -> None:
    allowed = {"errors", "files", "ir", "ops", "kernels", "codegen", "plan", "planner", "bench"}
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[0] == "streamrnn" and len(parts) > 2:
            assert parts[1] in allowed, f"{path.name} imports {module}; use the public API of streamrnn"


def test_numba_flags_stand_in_one_place() -> None:
    users = [p.name for p in RUNTIME if "import njit" in p.read_text()]
    assert users == ["_jit.py"]


def test_importing_streamrnn_loads_nothing_heavy() -> None:
    parts = [f"streamrnn.{part}" for part in ("ops", "kernels", "ir.graph", "planner", "pool", "snapshot")]
    heavy = ["numba", "llvmlite", "onnx", "onnxruntime", "matplotlib", "torch", "typer", "safetensors", *parts]
    code = f"import sys, streamrnn; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_command_imports_no_other() -> None:
    code = "import sys; from streamrnn.cli import app; app(['warm', '-h'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("streamrnn.cli.")}
    assert "streamrnn.cli.warm" in loaded
    assert not loaded & {
        f"streamrnn.cli.{name}" for name in ("convert", "inspect", "validate", "run", "bench", "demo", "doctor")
    }


@pytest.mark.parametrize("path", [*RUNTIME, *CONVERTERS], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
