"""The folder of compiled code keeps within its bound, and what is in use stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from streamrnn.codegen import cache


def filled(folder: Path, ages: dict[str, float]) -> Path:
    """Files of 1000 bytes, last used so many seconds ago."""
    for name, age in ages.items():
        (folder / name).write_bytes(bytes(1000))
        os.utime(folder / name, (time.time() - age,) * 2)
    return folder


def test_the_files_used_least_recently_go_first(tmp_path: Path) -> None:
    folder = filled(tmp_path, {"a.o": 4000, "b.bc": 3000, "c.engine": 2000, "d.o": 1000})
    assert cache.prune(folder, 4000) == (0, 4000)
    assert cache.prune(folder, 2500) == (2000, 2000)
    assert sorted(os.listdir(folder)) == ["c.engine", "d.o"]


def test_what_was_used_just_now_stays_however_small_the_bound(tmp_path: Path) -> None:
    folder = filled(tmp_path, {"a.o": 4000, "b.o": 5000})
    cache.touch(folder / "b.o")
    assert cache.prune(folder, 0) == (1000, 1000)
    assert os.listdir(folder) == ["b.o"]


def test_only_files_of_the_cache_are_removed(tmp_path: Path) -> None:
    folder = filled(tmp_path, {"notes.txt": 4000, "a.o": 4000})
    (folder / "folder.o").mkdir()
    (folder / "link.o").symlink_to(folder / "notes.txt")
    cache.prune(folder, 0)
    assert sorted(os.listdir(folder)) == ["folder.o", "link.o", "notes.txt"]


def test_the_first_file_that_a_process_adds_bounds_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMRNN_CACHE_MB", "0")
    folder = filled(tmp_path, {"a.o": 4000})
    cache.keep(folder / "b.o", b"new")
    assert os.listdir(folder) == ["b.o"]
