"""What the architectures of a NAM file share: the flat list of weights, and activations."""

from __future__ import annotations

import math
from collections.abc import Mapping

from streamrnn.ir.graph import Array
from streamrnn_converters.audio._json import Fields, array, number, refuse, shown
from streamrnn_converters.audio.model import ACTIVATIONS, Activation, Conv


class Weights:
    """The weights of one model, taken in the order in which the file lists them. Every method raises ModelFileError."""

    def __init__(self, data: Fields) -> None:
        self.where = data.where
        self.values = data.array("weights", (None,))
        self.position = 0

    def take(self, *shape: int) -> Array:
        """The next weights, row by row."""
        count = math.prod(shape)
        if self.position + count > self.values.size:
            refuse(
                self.where,
                f"has {self.values.size} weights, its configuration asks for more (at least {self.position + count})",
                "weights and configuration do not belong together; export the file again",
            )
        found: Array = self.values[self.position : self.position + count].reshape(shape)
        self.position += count
        return found

    def conv(self, n_in: int, n_out: int, taps: int, bias: bool, dilation: int = 1, groups: int = 1) -> Conv:
        """The next convolution: weight [out, in / groups, taps], then its bias."""
        if n_in % groups or n_out % groups:
            refuse(self.where, f"{n_in} inputs and {n_out} outputs do not divide into {groups} groups")
        weight = self.take(n_out, n_in // groups, taps)
        return Conv(weight, self.take(n_out) if bias else None, dilation, groups)

    def end(self) -> None:
        """Refuse weights that nothing has asked for."""
        if self.position != self.values.size:
            refuse(
                self.where,
                f"has {self.values.size} weights, its configuration asks for {self.position}",
                "weights and configuration do not belong together; export the file again",
            )


#: name in the file -> (kind, names of its parameters)
_NAMES: Mapping[str, str] = {
    "Tanh": "tanh", "Hardtanh": "hardtanh", "HardTanh": "hardtanh", "Fasttanh": "fasttanh", "ReLU": "relu",
    "LeakyReLU": "leakyrelu", "PReLU": "prelu", "Sigmoid": "sigmoid", "SiLU": "silu", "Hardswish": "hardswish",
    "LeakyHardtanh": "leakyhardtanh", "LeakyHardTanh": "leakyhardtanh", "Softsign": "softsign", "Softsigmoid": "softsigmoid",
}  # fmt: skip
_PRELU = 0.01


def activation(value: object, where: str, channels: int) -> Activation:
    """An activation: its name, or an object with "type" and parameters. Raises ModelFileError."""
    spec = Fields({"type": value} if isinstance(value, str) else value, where)
    name = spec.text("type")
    kind = _NAMES.get(name)
    if kind is None:
        refuse(where, f"activation {shown(name)} is not known", f"{', '.join(dict.fromkeys(_NAMES))} are; upgrade streamrnn")
    parameters = {key: entry for key, entry in spec.data.items() if key != "type" and entry is not None}
    if kind == "prelu":
        slopes = parameters.pop("negative_slopes", None)
        single = parameters.pop("negative_slope", _PRELU)
        found = array([single] if slopes is None else slopes, f"{where}: slopes", (None,))
        if found.size not in (1, channels):
            refuse(where, f"has {found.size} slopes for {channels} channels")
        result = Activation("prelu", slopes=found)
    else:
        known = ACTIVATIONS[kind]
        chosen = {key: number(parameters.pop(key), f"{where}: '{key}'") for key in known if key in parameters}
        result = Activation(kind, {**known, **chosen})
    if parameters:
        refuse(where, f"{shown(sorted(parameters))} are no parameters of {name}", "upgrade streamrnn, or export the file again")
    if result.numbers.get("min_val", -1.0) > result.numbers.get("max_val", 1.0):
        refuse(where, "min_val is above max_val")
    return result
