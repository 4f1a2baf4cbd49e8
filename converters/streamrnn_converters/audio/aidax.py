"""AIDA-X JSON: RTNeural's format with an LSTM or GRU and a dense layer, and around it

in_gain, out_gain   gains in dB in front of and behind the model; none where they are left out
in_skip             1: the signal is added to what the layers give, in front of out_gain
samplerate          in Hz, also written as text, on top or in "metadata"
input_batch, output_batch   a test of the layers: from zero state, without the gains

Inputs behind the first are the plugin's parameters PARAM1 and PARAM2.
Source  github.com/AidaDSP/AIDA-X and aidadsp-lv2.
"""

from __future__ import annotations

from typing import Any

from streamrnn_converters.audio._json import Fields, refuse
from streamrnn_converters.audio.model import AudioModel, SelfTest, checked, decibels
from streamrnn_converters.audio.notes import knobs, meta_of
from streamrnn_converters.audio.rtneural import read_layers

#: keys that no other file of this family has
_MARKS = frozenset({"in_skip", "in_gain", "out_gain", "input_batch", "output_batch", "samplerate", "metadata"})
#: what the format's own player allows in its test, on a quiet signal
_TOLERANCE = 1e-5
#: frames of silence that the player feeds before the first sound
_SILENCE = 2048


def is_aidax(data: dict[str, Any]) -> bool:
    """Whether a file with in_shape and layers is AIDA-X's."""
    return not _MARKS.isdisjoint(data)


def read_aidax(data: Fields, name: str) -> AudioModel:
    """The model of a parsed file. Raises ModelFileError."""
    stages, inputs, notes = read_layers(data)
    skip = data.integer("in_skip", 0, 1, 0) == 1
    gains = {key: data.number(key, 0.0) for key in ("in_gain", "out_gain")}
    layers = {"in_shape", "layers", "input_batch", "output_batch", "in_skip", "metadata", *gains}
    meta: dict[str, object] = {**meta_of(data, skip=layers)}
    if "metadata" in data:
        meta |= meta_of(data.fields("metadata"))
    meta |= {"in_skip": int(skip), "in_gain_db": gains["in_gain"], "out_gain_db": gains["out_gain"]}
    if notes:
        meta["notes"] = notes
    model = AudioModel(
        name,
        "AIDA-X JSON",
        knobs(inputs - 1),
        stages,
        skip,
        decibels(gains["in_gain"], f"{data.where}: 'in_gain'"),
        decibels(gains["out_gain"], f"{data.where}: 'out_gain'"),
        meta,
        prewarm=_SILENCE,
        self_test=_self_test(data),
    )
    return checked(model, data.where)


def _self_test(data: Fields) -> SelfTest | None:
    if "input_batch" not in data and "output_batch" not in data:
        return None
    x, y = data.array("input_batch", (None,)), data.array("output_batch", (None,))
    if x.size != y.size:
        refuse(data.where, f"the test in the file has {x.size} inputs and {y.size} outputs")
    return SelfTest(x, y, _TOLERANCE)
