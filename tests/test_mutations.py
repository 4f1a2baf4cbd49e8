"""A damaged file is refused or still right: never a crash, a hang, or a wrong answer without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models
import mutations
import pytest
from mutations import FINE, Damage, damages, structure, verdicts

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "models"
FILES: dict[str, Callable[[Path], Path]] = {
    "a step model": models.packed_step,
    "a clip of two layers": models.two_layers,
    "a convolution in front of a GRU": models.conv_gru,
    "branches": models.two_rates,
    "trained": lambda path: EXAMPLES / "sensor.onnx",
}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_a_damaged_model_is_refused_or_still_right(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "model.onnx")
    data = path.read_bytes()
    chosen = damages(15, range(len(data)), 1) + damages(15, structure(data), 2)
    found = list(verdicts(path, chosen, tmp_path, {}))
    assert len(found) == 30
    assert [row for row in found if row[1] not in FINE] == []
    assert {verdict for _, verdict, _ in found} >= {"refused"}


@pytest.mark.parametrize("name", ["external_data_missing.onnx", "git_lfs_pointer.onnx"])
def test_a_file_that_must_be_refused_is_refused_however_it_is_damaged(models: Path, tmp_path: Path, name: str) -> None:
    path = models / "bad" / name
    found = list(verdicts(path, damages(20, range(path.stat().st_size), 3), tmp_path, {}))
    assert {verdict for _, verdict, _ in found} == {"refused"}


def test_each_damage_is_what_its_name_says() -> None:
    data = bytes(range(10))
    assert Damage("flip", 3, 4).done_to(data) == bytes([0, 1, 2, 7, 4, 5, 6, 7, 8, 9])
    assert Damage("double", 3, 4).done_to(data) == bytes([0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9])
    assert Damage("cut", 3, 4).done_to(data) == bytes([0, 1, 2])


def test_the_judge_notices_a_process_that_dies_hangs_or_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that answers nothing good, by the name of the copy's folder."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, os, sys, time\n"
        "for line in sys.stdin:\n"
        "    what = open(line.strip()).read()\n"
        "    if what.startswith('die'): os.abort()\n"
        "    if what.startswith('hang'): time.sleep(60)\n"
        "    if what.startswith('ran'): print(json.dumps(['ran', '']), flush=True); os.abort()\n"
        "    print(json.dumps(['wrong', 'x']), flush=True)\n"
    )
    monkeypatch.setattr(mutations, "__file__", str(script))
    monkeypatch.setattr(mutations, "PATIENCE", 3.0)
    found = {}
    for what in ("die", "hang", "ran", "wrong"):
        path = tmp_path / f"{what}.onnx"
        path.write_text(what + "!")
        ((_, verdict, _),) = verdicts(path, [Damage("cut", len(what), 0)], tmp_path, {})
        found[what] = verdict
    assert found == {"die": "crash", "hang": "hang", "ran": "unjudged", "wrong": "wrong"}
