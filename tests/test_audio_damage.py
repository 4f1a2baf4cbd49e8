"""A damaged audio model file is refused, or computed as the damaged bytes say: never a crash, a hang or a wrong answer.

A byte is removed, flipped in one bit or doubled, or the file is cut, at random places with a fixed seed. A changed digit in a
weight leaves a valid file of another model, so the oracle reads the same bytes.
"""

from __future__ import annotations

import json
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import audio_files as files
import audio_nam
import pytest
from damage import WAYS, damaged, verdict

PLACES = 12

FILES: dict[str, Callable[[], Any]] = {
    "rtneural.json": lambda: files.rtneural_models()["conv1d"],
    "norms.json": lambda: files.rtneural_models()["norms"],
    "aidax.json": lambda: files.aidax(in_gain=1.5),
    "guitarml.json": lambda: files.guitarml(inputs=2),
    "lstm.nam": audio_nam.lstm,
    "wavenet.nam": lambda: audio_nam.wavenet(gated=True),
    "all.nam": audio_nam.wavenet_of_all,
    "container.nam": audio_nam.container,
}


@pytest.fixture
def bounded() -> Iterator[None]:
    """At most 2 GB of addresses more than now, so that a size from a file cannot take the machine's memory in silence."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (2 << 30), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def counted(path: Path, data: bytes, places: int, layers: str = "") -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for way, _, bad in damaged(data, places, 20):
        path.write_bytes(bad)
        found[way, verdict(path, layers)] += 1
    assert sum(found.values()) == places * len(WAYS)
    return found


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", FILES)
def test_small_files(tmp_path: Path, name: str) -> None:
    data = json.dumps(FILES[name]()).encode()
    found = counted(tmp_path / name, data, PLACES)
    assert found["cut", "refused"] == PLACES
    assert sum(n for (_, what), n in found.items() if what == "right") > 0


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(
    "name",
    ["rtneural/conv.json", "rtneural/gru_torch.json", "aidax/tw40_blues_deluxe_deerinkstudios.json",
     "guitarml/ht1-ht13__model.json", "nam/lstm.nam", "nam/wavenet.nam", "nam/BossWN-feather.nam"],
)  # fmt: skip
def test_real_files(models: Path, tmp_path: Path, name: str) -> None:
    path = models / "audio" / name
    counted(tmp_path / path.name, path.read_bytes(), 4, "gru,gru2,dense" if "torch" in name else "")


@pytest.mark.usefixtures("bounded")
def test_bad_files_stay_refused(models: Path, tmp_path: Path) -> None:
    for path in sorted((models / "bad").iterdir()):
        found = counted(tmp_path / path.name, path.read_bytes(), 4)
        assert {what for _, what in found} == {"refused"}, path.name
