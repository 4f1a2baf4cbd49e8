"""A PyTorch state_dict as JSON: weights by module name, and no word about how the modules are connected.

RTNeural's torch flavour is one alone, so its topology has to be given: `layers`, module names and activations in order,
separated by commas. A module stands with what the state_dict does not hold: "conv1:dilation=2:stride=1". "." is a module
without a name (keys "weight" and "bias"). What a module is shows in its keys:

    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 ...   LSTM (4H rows: i, f, g, o) or GRU (3H rows: r, z, n), l1 ... behind
    weight [out, in], bias [out]                             Linear
    weight [out, in / groups, taps], bias [out]              Conv1d; causal here, the last tap meets the newest frame
    running_mean, running_var, weight, bias                  BatchNorm (options: epsilon, 1e-5 else)
    weight [1 or width], nothing else                        PReLU

A ConvTranspose1d has the keys of a Conv1d and is taken for one, so it may not be named in `layers`.

Source  pytorch.org/docs, pages of these modules; torch_helpers of github.com/jatinchowdhury18/RTNeural.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamrnn.errors import BindingError
from streamrnn_converters.audio._json import Fields, refuse
from streamrnn_converters.audio.model import (
    MAX_HISTORY,
    MAX_STAGES,
    MAX_WIDTH,
    Activation,
    AudioModel,
    BatchNorm,
    Conv,
    Gru,
    Lstm,
    Stage,
    checked,
    zeros,
)

_ACTIVATIONS = ("tanh", "relu", "sigmoid", "softmax", "elu")
_RECURRENT = re.compile(r"(weight|bias)_(ih|hh)_l\d+")
_MEMBERS = frozenset({"weight", "bias", "running_mean", "running_var", "num_batches_tracked"})


def is_state_dict(data: dict[str, Any]) -> bool:
    """Whether every entry is named as PyTorch names parameters."""
    return bool(data) and all(_RECURRENT.fullmatch(k := key.rsplit(".", 1)[-1]) or k in _MEMBERS for key in data)


def read_state_dict(data: Fields, name: str, layers: str) -> AudioModel:
    """The model of a bare state_dict. Raises ModelFileError, and BindingError where `layers` is missing or does not fit."""
    modules = _modules(data)
    found = ", ".join(f"{module or '.'} ({kind})" for module, kind in modules.items())
    if not layers.strip():
        raise BindingError(
            f"{data.where}: a PyTorch state_dict does not say how its modules are connected; give them in order, with the "
            f"activations between them: --layers {','.join(module or '.' for module in modules)} (found: {found})"
        )
    items = [item.strip() for item in layers.split(",")]
    if len(items) > MAX_STAGES:
        raise BindingError(f"--layers: {len(items)} layers, at most {MAX_STAGES} are compiled")
    stages: list[Stage] = []
    width: int | None = None
    inputs, used = 0, set[str]()
    for item in items:
        module, *options = item.split(":")
        if module in _ACTIVATIONS and module not in modules:
            stages.append(Activation(module, _options(item, options, {"alpha": float}) if module == "elu" else {}))
            continue
        module = "" if module == "." else module
        if module not in modules:
            raise BindingError(f"--layers {item}: neither a module of the file nor an activation; found: {found}")
        used.add(module)
        added = _module(data, module, item, options, width)
        sized = [stage for stage in added if not isinstance(stage, Activation)]
        if sized:
            inputs = inputs or sized[0].width_in
            width = sized[-1].width
        stages += added
    if not inputs:
        raise BindingError(f"--layers {layers}: no layer among them has weights, so the width of a frame is open")
    left = [module for module in modules if module not in used]
    meta: dict[str, object] = {"layers": layers}
    if left:
        meta["notes"] = [f"not in --layers, so left out: {', '.join(left)}"]
    return checked(
        AudioModel(name, "RTNeural JSON (PyTorch state_dict)", (("audio", inputs),), tuple(stages), meta=meta), data.where
    )


def _modules(data: Fields) -> dict[str, str]:
    """Module -> what it is, in the order of the file."""
    keys: dict[str, list[str]] = {}
    for name in data.data:
        module, _, key = name.rpartition(".")
        keys.setdefault(module, []).append(key)
    kinds = {}
    for module, members in keys.items():
        if any(_RECURRENT.fullmatch(key) for key in members):
            kinds[module] = "recurrent"
        elif "running_mean" in members:
            kinds[module] = "BatchNorm"
        else:
            rank = _rank(data.data.get(_key(module, "weight")))
            known = {2: "Linear", 3: "Conv1d"} if "bias" in members else {1: "PReLU", 2: "Linear", 3: "Conv1d"}
            kinds[module] = known.get(rank, "unknown")
    return kinds


def _key(module: str, key: str) -> str:
    return f"{module}.{key}" if module else key


def _rank(value: object) -> int:
    rank = 0
    while isinstance(value, list) and value and rank < 8:
        value, rank = value[0], rank + 1
    return rank


def _options(item: str, options: Sequence[str], known: Mapping[str, type]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in options:
        key, _, text = option.partition("=")
        if key not in known:
            raise BindingError(f"--layers {item}: '{key}' is no option here; there are {', '.join(known) or 'none'}")
        try:
            found[key] = known[key](text)
        except ValueError:
            raise BindingError(f"--layers {item}: '{text}' is not understood") from None
        if not np.isfinite(found[key]) or not (key == "alpha" or 0 < found[key] <= MAX_HISTORY):
            raise BindingError(f"--layers {item}: {key} = {text} is out of range")
    return found


def _module(data: Fields, module: str, item: str, options: Sequence[str], width: int | None) -> list[Stage]:
    kind = _modules(data)[module]
    chosen = _options(item, options, _OPTIONS.get(kind, {}))
    weight, bias = _key(module, "weight"), _key(module, "bias")
    if kind == "recurrent":
        return list(recurrent_layers(data, f"{module}." if module else ""))
    if kind == "Linear":
        matrix = data.array(weight, (None, None))
        return [Conv.dense(matrix, data.array(bias, matrix.shape[:1]) if bias in data else None)]
    if kind == "Conv1d":
        kernel = data.array(weight, (None, None, None))
        groups = (width or kernel.shape[1]) // kernel.shape[1]
        if (width is not None and groups * kernel.shape[1] != width) or kernel.shape[0] % max(1, groups):
            refuse(f"{data.where}: '{weight}'", f"shape {list(kernel.shape)} does not fit the {width} values in front of it")
        offset = data.array(bias, kernel.shape[:1]) if bias in data else None
        return [Conv(kernel, offset, chosen.get("dilation", 1), groups, chosen.get("stride", 1))]
    if kind == "BatchNorm":
        mean = data.array(_key(module, "running_mean"), (None,))
        variance = data.array(_key(module, "running_var"), mean.shape)
        epsilon = chosen.get("epsilon", 1e-5)
        if not (variance + epsilon > 0).all():
            refuse(f"{data.where}: '{module}'", "a variance plus epsilon is not positive", "train or export the model again")
        scale = data.array(weight, mean.shape) if weight in data else np.ones_like(mean)
        return [BatchNorm(scale, data.array(bias, mean.shape) if bias in data else zeros(mean.size), mean, variance, epsilon)]
    if kind == "PReLU":
        slopes = data.array(weight, (None,))
        if slopes.size not in (1, width):
            refuse(f"{data.where}: '{weight}'", f"{slopes.size} slopes for {width} values", "check the order in --layers")
        return [Activation("prelu", slopes=slopes)]
    return refuse(f"{data.where}: '{module}'", "what kind of module this is does not show in its weights", _CONV2D)


#: kind of module -> options that it takes in `layers`
_OPTIONS: Mapping[str, Mapping[str, type]] = {"Conv1d": {"dilation": int, "stride": int}, "BatchNorm": {"epsilon": float}}
_CONV2D = "LSTM, GRU, Linear, Conv1d, BatchNorm and PReLU are known; export the model as Keras JSON or ONNX"


def recurrent_layers(data: Fields, prefix: str, unit: str = "", hidden: int | None = None) -> list[Lstm | Gru]:
    """The layers <prefix>weight_ih_l0, _l1 ... of an nn.LSTM or nn.GRU.

    unit:   "LSTM" or "GRU" where that is known, else the number of rows says it.
    hidden: the hidden size where that is known, checked against the weights.
    """
    layers: list[Lstm | Gru] = []
    while f"{prefix}weight_ih_l{len(layers)}" in data:
        k = len(layers)
        if f"{prefix}weight_ih_l{k}_reverse" in data.data:
            refuse(data.where, f"'{prefix[:-1]}' is bidirectional, so it needs the whole clip", "train it one way")
        recurrent = data.array(f"{prefix}weight_hh_l{k}", (None, hidden))
        rows, H = recurrent.shape
        gates = {"LSTM": 4, "GRU": 3}.get(unit, rows // H)
        if rows != gates * H or gates not in (3, 4) or H > MAX_WIDTH:
            wanted = f"{gates} * {H}" if unit else f"3 * {H} (GRU) or 4 * {H} (LSTM)"
            refuse(f"{data.where}: '{prefix}weight_hh_l{k}'", f"has {rows} rows, {wanted} are expected")
        kernel = data.array(f"{prefix}weight_ih_l{k}", (rows, layers[-1].width if layers else None))
        names = [f"{prefix}bias_{way}_l{k}" for way in ("ih", "hh")]
        given = [name in data for name in names]
        if given[0] != given[1]:
            refuse(data.where, f"of '{names[0]}' and '{names[1]}' only one is there")
        biases = [data.array(name, (rows,)) if given[0] else zeros(rows) for name in names]
        if gates == 4:
            layers.append(Lstm(kernel, recurrent, biases[0] + biases[1], zeros(H), zeros(H)))
        else:
            layers.append(Gru(kernel, recurrent, biases[0], biases[1], "rzn"))
    if not layers:
        refuse(data.where, f"'{prefix}weight_ih_l0' is missing")
    count = sum(1 for key in data.data if re.fullmatch(re.escape(prefix) + r"weight_hh_l\d+", key))
    if count != len(layers):
        refuse(data.where, f"'{prefix[:-1]}' has {count} layers, but only {len(layers)} of them in a row")
    return layers
