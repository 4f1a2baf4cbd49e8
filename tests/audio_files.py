"""Small audio model files of every format, with random weights: what tests write, as the dicts behind the JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Json = dict[str, Any]


def write(path: Path, data: object) -> Path:
    """`data` as a JSON file."""
    path.write_text(json.dumps(data))
    return path


class Dice:
    """Seeded random weights as nested lists, rounded to float32 so that every reader sees the same numbers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def list(self, *shape: int, scale: float = 0.4) -> list[Any]:
        found: list[Any] = self.rng.normal(0, scale, shape).astype(np.float32).astype(np.float64).tolist()
        return found

    def positive(self, *shape: int) -> list[Any]:
        found: list[Any] = self.rng.uniform(0.3, 2.0, shape).astype(np.float32).astype(np.float64).tolist()
        return found


# -- RTNeural -----------------------------------------------------------------------------------------------------------


def layer(kind: str, width: int, weights: Sequence[Any] = (), activation: str = "", **more: Any) -> Json:
    return {"type": kind, "activation": activation, "shape": [None, None, width], "weights": list(weights), **more}


def dense(d: Dice, n_in: int, n_out: int, activation: str = "", bias: bool = True) -> Json:
    return layer("dense", n_out, [d.list(n_in, n_out), *([d.list(n_out)] if bias else [])], activation)


def conv1d(d: Dice, n_in: int, n_out: int, taps: int, activation: str = "", **more: Any) -> Json:
    groups = more.get("groups", 1)
    weights = [d.list(taps, n_in // groups, n_out), d.list(n_out)]
    return layer("conv1d", n_out, weights, activation, kernel_size=[taps], dilation=[more.pop("dilation", 1)], **more)


def lstm(d: Dice, n_in: int, H: int) -> Json:
    return layer("lstm", H, [d.list(n_in, 4 * H), d.list(H, 4 * H), d.list(4 * H)], "tanh")


def gru(d: Dice, n_in: int, H: int) -> Json:
    return layer("gru", H, [d.list(n_in, 3 * H), d.list(H, 3 * H), d.list(2, 3 * H)], "tanh")


def conv2d(
    d: Dice, features: int, filters: int, filters_out: int, taps: tuple[int, int], features_out: int, **more: Any
) -> Json:
    """features_out: what the layer's shape says."""
    weights = [d.list(*taps, filters, filters_out), d.list(filters_out)]
    own = {"kernel_size_time": taps[0], "kernel_size_feature": taps[1], "dilation": 1, "strides": 1, "padding": "valid"}
    sizes = {"num_filters_in": filters, "num_features_in": features, "num_filters_out": filters_out}
    found = layer("conv2d", 1, weights, "tanh", **{**own, **sizes, **more})
    return {**found, "shape": [None, None, features_out, filters_out]}


def batchnorm(d: Dice, channels: int, affine: bool = True, kind: str = "batchnorm", **more: Any) -> Json:
    weights = [*([d.list(channels), d.list(channels)] if affine else []), d.list(channels), d.positive(channels)]
    return layer(kind, more.pop("width", channels), weights, epsilon=0.01, **more)


def rtneural(layers: Sequence[Json], n_in: int = 1) -> Json:
    return {"in_shape": [None, None, n_in], "layers": list(layers)}


def rtneural_models() -> Mapping[str, Json]:
    """Every layer type, setting and activation."""
    d = Dice(1)
    four = {"num_features_in": 3, "num_filters_in": 2, "width": 6}
    return {
        "dense": rtneural([dense(d, 1, 5, "tanh"), dense(d, 5, 3, "relu", bias=False), dense(d, 3, 1, "sigmoid")]),
        "activations": rtneural(
            [layer("activation", 4, activation="elu"), dense(d, 4, 3), layer("activation", 3, activation="softmax")], 4
        ),
        "recurrent": rtneural([layer("time-distributed-dense", 3, [d.list(1, 3), d.list(3)]), lstm(d, 3, 5), gru(d, 5, 4)]),
        "conv1d": rtneural([
            conv1d(d, 1, 6, 3, "tanh", dilation=2), conv1d(d, 6, 4, 2, groups=2), conv1d(d, 4, 2, 1, "relu"),
        ]),
        "strided": rtneural([conv1d(d, 1, 3, 4, "tanh", strides=[2]), conv1d(d, 3, 2, 2, strides=2), dense(d, 2, 1)]),
        "norms": rtneural([
            dense(d, 1, 4), batchnorm(d, 4), layer("prelu", 4, [[[0.25]]]),
            batchnorm(d, 4, affine=False), layer("prelu", 4, [[d.list(1, 4)[0:1]]][0:1] and [[[*d.list(1, 4)]]]),
        ]),
        "conv2d": {"in_shape": [None, None, 5, 2], "layers": [
            conv2d(d, 5, 2, 3, (2, 3), 5, padding="same", dilation=2), conv2d(d, 5, 3, 2, (3, 2), 3, strides=2, padding="same"),
            batchnorm(d, 2, kind="batchnorm2d", **four), conv2d(d, 3, 2, 2, (1, 2), 2), dense(d, 4, 1),
        ]},
    }  # fmt: skip


def torch_state() -> tuple[Json, str]:
    """(state_dict, topology) with a conv, a batch norm, a stacked GRU, an LSTM, a PReLU and a dense layer."""
    d = Dice(2)
    state: Json = {"conv.weight": d.list(4, 1, 3), "conv.bias": d.list(4), "wide.weight": d.list(4, 2, 2)}
    state |= {f"norm.{key}": d.list(4) for key in ("weight", "bias", "running_mean")}
    state |= {"norm.running_var": d.positive(4), "norm.num_batches_tracked": 7, "slope.weight": d.list(1)}
    for k, n in enumerate((4, 3)):
        state |= {f"gru.weight_ih_l{k}": d.list(9, n), f"gru.weight_hh_l{k}": d.list(9, 3)}
        state |= {f"gru.bias_ih_l{k}": d.list(9), f"gru.bias_hh_l{k}": d.list(9)}
    state |= {"lstm.weight_ih_l0": d.list(8, 3), "lstm.weight_hh_l0": d.list(8, 2)}
    state |= {
        "lstm.bias_ih_l0": d.list(8),
        "lstm.bias_hh_l0": d.list(8),
        "out.weight": d.list(1, 2),
        "spare.weight": d.list(3, 3),
    }
    return state, "conv:dilation=2,tanh,wide,norm,slope,gru,lstm,out"


# -- AIDA-X and GuitarML ------------------------------------------------------------------------------------------------


def aidax(seed: int = 3, inputs: int = 1, **more: Any) -> Json:
    d = Dice(seed)
    return {**rtneural([lstm(d, inputs, 6), dense(d, 6, 1)], inputs), "samplerate": "48000", **more}


def guitarml(unit: str = "LSTM", inputs: int = 1, skip: int = 1, layers: int = 1, bias: bool = True) -> Json:
    d, H = Dice(4), 5
    rows = {"LSTM": 4, "GRU": 3}[unit] * H
    state: Json = {"lin.weight": d.list(1, H), "lin.bias": d.list(1)}
    for k in range(layers):
        state |= {f"rec.weight_ih_l{k}": d.list(rows, inputs if k == 0 else H), f"rec.weight_hh_l{k}": d.list(rows, H)}
        if bias:
            state |= {f"rec.bias_ih_l{k}": d.list(rows), f"rec.bias_hh_l{k}": d.list(rows)}
    info = {"model": "SimpleRNN", "input_size": inputs, "skip": skip, "output_size": 1, "unit_type": unit}
    return {"model_data": {**info, "num_layers": layers, "hidden_size": H, "bias_fl": bias}, "state_dict": state}
