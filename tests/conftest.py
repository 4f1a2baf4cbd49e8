"""Shared by all tests: where the local model collection is, one cache of compiled code, and cases of the op contract."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from contract import fixture_cases

_ROOT = Path(__file__).resolve().parent.parent
# thousands of small test models have no business in the user's cache; new processes of the tests inherit this
os.environ.setdefault("STREAMRNN_CACHE", str(_ROOT / ".pytest_cache" / "compiled"))


_CASES = ("case", "onnx_case", "stream_case", "warm_case", "refused_case")
_EMPTY = "no-case"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per case of a `contract.Contract` subclass."""
    for fixture in _CASES:
        if fixture in metafunc.fixturenames:
            cases = fixture_cases(metafunc.cls.cases if metafunc.cls is not None else [], fixture)
            metafunc.parametrize(fixture, cases or [None], ids=[str(case) for case in cases] or [_EMPTY])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A property that concerns none of a class's cases is no test."""
    items[:] = [item for item in items if not item.name.endswith(f"[{_EMPTY}]")]


@pytest.fixture(scope="session")
def models() -> Path:
    """Folder of real models that other people trained; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("STREAMRNN_MODELS", _ROOT.parent / "shared" / "models"))
    if not folder.is_dir():
        pytest.skip(f"no model collection at {folder} (set STREAMRNN_MODELS)")
    return folder
