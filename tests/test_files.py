"""Files are written aside and renamed; links, pipes and devices stay what they are."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from streamrnn.files import write_aside


def test_a_symbolic_link_stays_one_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    for name, target in (("link", "real"), ("second", "link"), ("dangling", "new")):
        (tmp_path / name).symlink_to(target)
        write_aside(tmp_path / name, name.encode())
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_bytes() == name.encode()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    assert {p.name for p in tmp_path.iterdir()} == {"real", "link", "second", "dangling", "new"}


def test_pipes_are_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard: list[bytes] = []
    listener = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    listener.start()
    write_aside(pipe, b"through")
    listener.join()
    assert heard == [b"through"]
    assert pipe.is_fifo()


def test_what_cannot_be_written_is_an_error_with_the_users_name_for_it(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("folder/", "loop", "missing/file"):
        path = tmp_path / name
        if name == "folder/":
            path.mkdir()
        with pytest.raises(OSError, match=re.escape(str(path))):
            write_aside(path, b"data")
