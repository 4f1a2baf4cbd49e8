"""NAM files of every architecture: what they compute in float64, from the format's description, and small files made by it.

A formula takes its weights one after the other from a `Source`. A recording source draws them, so that the formula itself
says how many weights a file has and in which order; a replaying one reads them back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from audio_formulas import past, sigmoid, torch_conv

Array = Any
Json = dict[str, Any]
Function = Callable[[Array], Array]


class Source:
    """Weights in order: those given, or new random ones, which `taken` remembers."""

    def __init__(self, weights: list[float] | None = None, seed: int = 0) -> None:
        self.given = weights
        self.taken: list[float] = []
        self.rng = np.random.default_rng(seed)

    def take(self, *shape: int, positive: bool = False) -> Array:
        count = int(np.prod(shape, dtype=int))
        if self.given is None:
            new = self.rng.uniform(0.3, 1.5, count) if positive else self.rng.normal(0, 0.35, count)
            self.taken += new.astype(np.float32).astype(float).tolist()
        else:
            self.taken += self.given[len(self.taken) : len(self.taken) + count]
        return np.array(self.taken[len(self.taken) - count :], float).reshape(shape)

    def conv(
        self, n_in: int, n_out: int, taps: int, bias: bool, groups: int = 1, dilation: int = 1
    ) -> Callable[[Array], Array]:
        weight = self.take(n_out, n_in // groups, taps)
        offset = self.take(n_out) if bias else 0.0
        return lambda x: torch_conv(weight, offset, x, dilation, groups)


def function(spec: Any) -> Callable[[Array], Array]:
    name, p = (spec, {}) if isinstance(spec, str) else (spec["type"], spec)
    low, high = p.get("min_val", -1.0), p.get("max_val", 1.0)
    slopes = np.asarray(p.get("negative_slopes", [p.get("negative_slope", 0.01)]), float)
    leak = (p.get("min_slope", 0.01), p.get("max_slope", 0.01))

    def fast(v: Array) -> Array:
        a, b = abs(v), v * v
        above = v * (2.45550750702956 + 2.45550750702956 * a + (0.893229853513558 + 0.821226666969744 * a) * b)
        return above / (2.44506634652299 + (2.44506634652299 + b) * abs(v + 0.814642734961073 * v * a))

    table: dict[str, Callable[[Array], Array]] = {
        "Tanh": np.tanh, "ReLU": lambda v: np.maximum(v, 0), "Sigmoid": sigmoid, "SiLU": lambda v: v * sigmoid(v),
        "Softsign": lambda v: v / (1 + abs(v)), "Hardswish": lambda v: v * np.clip(v + 3, 0, 6) / 6, "Fasttanh": fast,
        "Hardtanh": lambda v: np.clip(v, low, high), "Softsigmoid": lambda v: (1 + v / (1 + abs(v))) / 2,
        "LeakyReLU": lambda v: np.where(v > 0, v, v * slopes), "PReLU": lambda v: np.where(v > 0, v, v * slopes),
        "LeakyHardtanh": lambda v: np.clip(v, low, high) + leak[0] * np.minimum(v - low, 0) + leak[1] * np.maximum(v - high, 0),
    }  # fmt: skip
    return table[name]


def nam(data: Json, x: Array) -> Array:
    """The output [frames, channels] of a file for x [frames, channels]."""
    config, source = data["config"], Source(data.get("weights") or [])
    y = FORMULAS[data["architecture"]](config, source, np.asarray(x, float))
    assert len(source.taken) == len(data.get("weights") or [])
    return y


def _lstm(config: Json, source: Source, x: Array) -> Array:
    H = config["hidden_size"]
    for k in range(config["num_layers"]):
        n = config["input_size"] if k == 0 else H
        W, b, h, c = source.take(4 * H, n + H), source.take(4 * H), source.take(H), source.take(H)
        rows = []
        for frame in x:
            i, f, g, o = np.split(W @ np.concatenate([frame, h]) + b, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            rows.append(h)
        x = np.array(rows)
    W, b = source.take(config.get("out_channels", 1), H), source.take(config.get("out_channels", 1))
    return x @ W.T + b


def _convnet(config: Json, source: Source, x: Array) -> Array:
    C, groups = config["channels"], config.get("groups", 1)
    for k, dilation in enumerate(config["dilations"]):
        norm = config["batchnorm"]
        x = source.conv(1 if k == 0 else C, C, 2, not norm, 1 if k == 0 else groups, dilation)(x)
        if norm:
            mean, var, scale, shift = source.take(C), source.take(C, positive=True), source.take(C), source.take(C)
            x = (x - mean) / np.sqrt(var + source.take(1, positive=True)) * scale + shift
        x = function(config["activation"])(x)
    return source.conv(C, config.get("out_channels", 1), 1, True)(x)


def _linear(config: Json, source: Source, x: Array) -> Array:
    n, m, taps = config.get("in_channels", 1), config.get("out_channels", 1), config["receptive_field"]
    responses = source.take(1 if n == m else max(n, m), taps)
    bias = source.take(1 if n == m else m) if config["bias"] else 0.0
    y = np.zeros((len(x), m)) + bias
    for t in range(len(x)):
        for k in range(taps):
            frame = past(x, t - k)
            if n == m:
                y[t] += responses[0, k] * frame
            elif n == 1:
                y[t] += responses[:, k] * frame[0]
            else:
                y[t, 0] += responses[:, k] @ frame
    return y


FILMS = (
    "conv_pre", "conv_post", "input_mixin_pre", "input_mixin_post",
    "activation_pre", "activation_post", "layer1x1_post", "head1x1_post",
)  # fmt: skip


def _wavenet(config: Json, source: Source, x: Array) -> Array:
    condition = nam(config["condition_dsp"], x) if config.get("condition_dsp") else x
    head = None
    for spec in config["layers"]:
        x, head = _array(spec, source, x, condition, head)
    post = []
    if config.get("head"):
        width, count = head.shape[1], config["head"]["kernel_sizes"]
        for k, taps in enumerate(count):
            target = config["head"]["out_channels"] if k == len(count) - 1 else config["head"]["channels"]
            post.append(source.conv(width, target, taps, True))
            width = target
    y = head * source.take(1)[0]
    for conv in post:
        y = conv(function(config["head"]["activation"])(y))
    return y


def _array(spec: Json, source: Source, x: Array, condition: Array, head: Array) -> tuple[Array, Array]:
    C, D = spec["channels"], spec["condition_size"]
    B, n = spec.get("bottleneck", C), len(spec["dilations"])

    def each(key: str, default: Any) -> list[Any]:
        value = spec.get(key, default)
        return value if isinstance(value, list) else [value] * n

    one, side = spec.get("layer1x1", {"active": True, "groups": 1}), spec.get("head1x1", {"active": False})
    x = source.conv(spec["input_size"], C, 1, False)(x)
    gates = each("gating_mode", "gated" if spec.get("gated") else "none")
    taps = each("kernel_sizes", spec.get("kernel_size"))
    for k in range(n):
        inside = B * (1 if gates[k] == "none" else 2)
        conv = source.conv(C, inside, taps[k], True, spec.get("groups_input", 1), spec["dilations"][k])
        mixin = source.conv(D, inside, 1, False, spec.get("groups_input_mixin", 1))
        to_next = source.conv(B, C, 1, True, one.get("groups", 1)) if one["active"] else None
        to_head = source.conv(B, side["out_channels"], 1, True, side.get("groups", 1)) if side["active"] else None
        widths = (C, inside, D, inside, inside, B, C, side.get("out_channels", 0))
        films = {name: _film(spec.get(f"{name}_film"), source, D, width) for name, width in zip(FILMS, widths, strict=True)}
        film = {name: (lambda v, f=f: v if f is None else f(v, condition)) for name, f in films.items()}
        z = film["conv_post"](conv(film["conv_pre"](x))) + film["input_mixin_post"](mixin(film["input_mixin_pre"](condition)))
        z = film["activation_pre"](z)
        act = function(each("activation", None)[k])
        if gates[k] == "none":
            z = act(z)
        else:
            gate = function(each("secondary_activation", "Sigmoid")[k])(z[:, B:])
            z = act(z[:, :B]) * gate + (0 if gates[k] == "gated" else (1 - gate) * z[:, :B])
        z = film["activation_post"](z)
        given = z if to_head is None else film["head1x1_post"](to_head(z))
        head = given if head is None else head + given
        if to_next is not None:
            x = x + film["layer1x1_post"](to_next(z))
    own = spec.get("head") or {"out_channels": spec["head_size"], "kernel_size": 1, "bias": spec["head_bias"]}
    return x, source.conv(head.shape[1], own["out_channels"], own["kernel_size"], own["bias"])(head)


def _film(spec: Any, source: Source, n_in: int, width: int) -> Any:
    if not spec or not spec.get("active", True):
        return None
    shift = spec.get("shift", True)
    conv = source.conv(n_in, width * (2 if shift else 1), 1, True, spec.get("groups", 1))
    return lambda v, c: v * conv(c)[:, :width] + (conv(c)[:, width:] if shift else 0)


def _container(config: Json, source: Source, x: Array) -> Array:
    return nam(config["submodels"][-1]["model"], x)


def _sequential(config: Json, source: Source, x: Array) -> Array:
    for model in config["models"]:
        x = nam(model, x)
    return x


FORMULAS: dict[str, Callable[[Json, Source, Array], Array]] = {
    "LSTM": _lstm, "ConvNet": _convnet, "Linear": _linear, "WaveNet": _wavenet,
    "SlimmableContainer": _container, "Sequential": _sequential,
}  # fmt: skip


# -- files ----------------------------------------------------------------------------------------------------------------


def file(architecture: str, config: Json, seed: int = 5, **more: Any) -> Json:
    """A file whose weights are what the formula asks for."""
    source = Source(seed=seed)
    FORMULAS[architecture](config, source, np.zeros((2, config.get("in_channels", config.get("input_size", 1)))))
    metadata = {"loudness": -20.5, "input_level_dbu": 18.3, "name": "Test amp", "date": {"year": 2024}}
    top = {"version": "0.5.4", "metadata": metadata, "architecture": architecture, "config": config}
    return {**top, "weights": source.taken, "sample_rate": 48000, **more}


def lstm(layers: int = 2, inputs: int = 1) -> Json:
    return file("LSTM", {"input_size": inputs, "hidden_size": 4, "num_layers": layers})


def _first_array(n_in: int, channels: int, head: int, dilations: list[int], bias: bool, gated: bool) -> Json:
    return {
        "input_size": n_in, "condition_size": 1, "head_size": head, "channels": channels, "kernel_size": 3,
        "dilations": dilations, "activation": "Tanh", "gated": gated, "head_bias": bias,
    }  # fmt: skip


def wavenet(gated: bool = False, seed: int = 6, outputs: int = 1) -> Json:
    """The first generation: one kernel size and activation per array."""
    arrays = [_first_array(1, 4, 3, [1, 2, 4], False, gated), _first_array(4, 3, outputs, [8, 1], True, gated)]
    return file("WaveNet", {"layers": arrays, "head": None, "head_scale": 0.5}, seed)


def wavenet_of_all() -> Json:
    """The second generation with everything in it: a condition of its own, FiLM at all places, gates, groups, heads."""
    film = {"active": True, "shift": True, "groups": 1}
    films = {f"{name}_film": {**film, "shift": k % 2 == 0} for k, name in enumerate(FILMS)}
    first = {
        "input_size": 1, "condition_size": 2, "channels": 4, "bottleneck": 2, "kernel_sizes": [3, 2, 1], "dilations": [1, 3, 2],
        "activation": ["Tanh", {"type": "LeakyReLU", "negative_slope": 0.2}, {"type": "PReLU", "negative_slopes": [0.1, 0.3]}],
        "gating_mode": ["gated", "blended", "none"], "secondary_activation": ["Sigmoid", "Softsigmoid", None],
        "groups_input": 2, "groups_input_mixin": 2, "head": {"out_channels": 3, "kernel_size": 2, "bias": True},
        "layer1x1": {"active": True, "groups": 2}, "head1x1": {"active": True, "out_channels": 2, "groups": 1}, **films,
    }  # fmt: skip
    second = {
        "input_size": 4, "condition_size": 2, "channels": 3, "kernel_size": 2, "dilations": [2], "activation": "SiLU",
        "layer1x1": {"active": False, "groups": 1}, "head": {"out_channels": 2, "kernel_size": 1, "bias": False},
        "conv_pre_film": False,
    }  # fmt: skip
    third = {**second, "input_size": 3, "channels": 2, "activation": "Hardswish"}
    head = {"channels": 3, "out_channels": 1, "kernel_sizes": [2, 3], "activation": "ReLU"}
    condition = wavenet(gated=True, seed=8, outputs=2)
    config = {"layers": [first, second, third], "head": head, "head_scale": 0.7, "condition_dsp": condition}
    return file("WaveNet", config, 9, version="0.7.0")


def container() -> Json:
    models = [{"max_value": 0.5, "model": wavenet(seed=10)}, {"max_value": 1.0, "model": lstm()}]
    return file("SlimmableContainer", {"submodels": models}, version="0.7.0")


def sequential() -> Json:
    first = file("Linear", {"receptive_field": 3, "bias": True}, 11)
    return file("Sequential", {"models": [first, wavenet(seed=12)], "weights_version": 2}, version="0.7.0")
