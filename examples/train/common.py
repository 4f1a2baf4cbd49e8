"""What the training scripts share: an ONNX graph writer, the check against onnxruntime, curves and scores.

The graphs are written node by node with ``onnx.helper`` instead of by an exporter, so that names are readable,
``time`` is the only dynamic dimension, and the recurrent layers keep their exact semantics. PyTorch and ONNX stack
the gates of a recurrent layer in different orders, and PyTorch's GRU applies the reset gate after the recurrent
matrix product, which ONNX calls ``linear_before_reset=1``:

=====  ==================================  ==============================
layer  PyTorch                             ONNX
=====  ==================================  ==============================
LSTM   input, forget, cell, output         input, output, forget, cell
GRU    reset, update, new                  update, reset, hidden
=====  ==================================  ==============================

Sources: the reference pages of ``torch.nn.LSTM`` and ``torch.nn.GRU``, and the ONNX operator specification.
"""

import argparse
import json
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import onnx
import onnxruntime
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

FloatArray = NDArray[np.float32]

OPSET = 17
IR_VERSION = 8
GATE_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
MODELS = Path(__file__).resolve().parent.parent / "models"


@dataclass(frozen=True)
class Run:
    """How a script was asked to run: fully, or a few steps into a temporary directory."""

    quick: bool
    out: Path


def parse_run(description: str) -> Run:
    """Read the command line every training script understands."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps on little data, for tests")
    parser.add_argument("--out", type=Path, help="output directory (with --quick, a temporary one by default)")
    args = parser.parse_args()
    out = args.out or (Path(tempfile.mkdtemp(prefix="streamrnn-train-")) if args.quick else MODELS)
    out.mkdir(parents=True, exist_ok=True)
    return Run(quick=args.quick, out=out)


def make_deterministic(seed: int) -> np.random.Generator:
    """Seed every generator, pin PyTorch to one thread, and return the generator for the training data."""
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    return np.random.default_rng(seed)


class OnnxGraph:
    """Writes an ONNX graph one node at a time; every method returns the name of the tensor it adds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, values: Any, dtype: type = np.float32) -> str:
        """Add an initializer."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), name))
        return name

    def op(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; the node takes its output's name."""
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], name=output, **attributes))
        return output

    def split(self, x: str, outputs: Sequence[str], sizes: Sequence[int], axis: int) -> list[str]:
        """Add a Split of ``x`` into pieces of the given sizes."""
        inputs = [x, self.constant(f"{x}/split_sizes", sizes, np.int64)]
        self.nodes.append(helper.make_node("Split", inputs, list(outputs), name=f"{x}/split", axis=axis))
        return list(outputs)

    def recurrent(self, layer: nn.LSTM | nn.GRU, x: str, name: str) -> str:
        """Add a one-layer LSTM or GRU over ``x`` [1, time, features], giving [1, time, hidden]."""
        kind = type(layer).__name__
        weights = {key: reorder_gates(value, kind) for key, value in layer.state_dict().items()}
        bias = np.concatenate([weights["bias_ih_l0"], weights["bias_hh_l0"]])
        inputs = [
            self.op("Transpose", [x], f"{name}/time_major_input", perm=[1, 0, 2]),
            self.constant(f"{name}/W", weights["weight_ih_l0"][None]),
            self.constant(f"{name}/R", weights["weight_hh_l0"][None]),
            self.constant(f"{name}/B", bias[None]),
        ]
        attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
        y = self.op(kind, inputs, f"{name}/Y", hidden_size=layer.hidden_size, **attributes)
        y = self.op("Squeeze", [y, self.constant(f"{name}/direction_axis", [1], np.int64)], f"{name}/time_major")
        return self.op("Transpose", [y], name, perm=[1, 0, 2])

    def linear(self, layer: nn.Linear, x: str, name: str) -> str:
        """Add a dense layer over the last axis as MatMul and Add."""
        weight = self.constant(f"{name}/weight", layer.weight.detach().numpy().T)
        bias = self.constant(f"{name}/bias", layer.bias.detach().numpy())
        return self.op("Add", [self.op("MatMul", [x, weight], f"{name}/product"), bias], name)

    def conv(self, layer: nn.Conv1d, x: str, name: str, pads: tuple[int, int]) -> str:
        """Add a convolution over time of ``x`` [1, channels, time], padded with zeros on the left and right."""
        inputs = [x, self.constant(f"{name}/weight", layer.weight.detach().numpy())]
        if layer.bias is not None:
            inputs.append(self.constant(f"{name}/bias", layer.bias.detach().numpy()))
        return self.op("Conv", inputs, name, kernel_shape=list(layer.kernel_size), pads=list(pads))

    def save(self, path: Path, inputs: dict[str, int], outputs: dict[str, int], metadata: dict[str, object]) -> None:
        """Check and write the model; ``inputs`` and ``outputs`` give each stream's number of features."""

        def streams(features: dict[str, int]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, "time", c]) for n, c in features.items()]

        graph = helper.make_graph(self.nodes, self.name, streams(inputs), streams(outputs), self.initializers)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="streamrnn-examples",
        )
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def reorder_gates(stacked: Tensor, kind: str) -> FloatArray:
    """Permute a stack of gates along the first axis from PyTorch's order to that of ONNX."""
    gates = np.split(stacked.detach().numpy(), len(GATE_ORDER[kind]))
    return np.concatenate([gates[i] for i in GATE_ORDER[kind]])


def run_onnx(path: Path, feeds: dict[str, FloatArray]) -> list[FloatArray]:
    """Run a model with onnxruntime on one thread and return all outputs in the order of the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def check_against_torch(path: Path, model: nn.Module, feeds: dict[str, FloatArray], tolerance: float = 1e-4) -> float:
    """Compare the written model with the PyTorch one on ``feeds`` and on a short prefix of them.

    Returns the largest absolute difference of any output, and raises ``AssertionError`` where it is not below
    ``tolerance``.
    """
    model.eval()
    differences = []
    for length in (7, next(iter(feeds.values())).shape[1]):
        prefix = {name: np.ascontiguousarray(x[:, :length]) for name, x in feeds.items()}
        with torch.no_grad():
            expected = model(*(torch.from_numpy(x) for x in prefix.values()))
        expected = expected if isinstance(expected, tuple) else (expected,)
        for want, got in zip(expected, run_onnx(path, prefix), strict=True):
            assert got.shape == tuple(want.shape), f"{path.name}: shape {got.shape}, expected {tuple(want.shape)}"
            differences.append(np.abs(got - want.numpy()).max())
    worst = float(np.max(differences))
    assert worst < tolerance, f"{path.name}: onnxruntime differs from PyTorch by {worst:.2e}"
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, onnxruntime differs from PyTorch by at most {worst:.2e}")
    return worst


def roc_auc(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties counting one half."""
    positive = np.asarray(labels, dtype=bool)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    rank_sum = mean_rank[inverse][positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


@dataclass
class Curve:
    """Losses over the course of a training."""

    ylabel: str
    steps: list[int] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    def add(self, step: int, training: float, validation: float) -> None:
        """Record and print one point."""
        self.steps.append(step)
        self.training.append(training)
        self.validation.append(validation)
        print(f"step {step:5d}  training {training:.5f}  validation {validation:.5f}", flush=True)


def plot_training(path: Path, curve: Curve, title: str, held_out: str, draw_example: Callable[[Axes], None]) -> None:
    """Plot the training curve beside an example from the held-out data."""
    style = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e6e6e6",
        "axes.axisbelow": True,
        "legend.frameon": False,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
    }
    with mpl.rc_context(style):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), width_ratios=(2, 3), layout="constrained")
        left.plot(curve.steps, curve.training, color="#9aa5b1", lw=1.5, label="training")
        left.plot(curve.steps, curve.validation, color="#c2410c", lw=2, label="validation")
        left.set(title="Training", xlabel="optimiser steps", ylabel=curve.ylabel, yscale="log")
        left.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter(NullFormatter())
        left.legend(loc="upper right")
        draw_example(right)
        figure.suptitle(f"{title}\nheld-out: {held_out}", fontsize=12, fontweight="bold", x=0.01, ha="left")
        figure.savefig(path, dpi=110)
        plt.close(figure)


class Score(TypedDict):
    """A number with its unit, empty for none, and what it means."""

    value: float
    unit: str
    meaning: str


Scores = dict[str, Score]


def score(value: float, unit: str, meaning: str) -> Score:
    """One entry of the scores file, to four digits; a score that is not a number is an error."""
    if not math.isfinite(value):
        raise ValueError(f"not a number: {meaning}")
    return Score(value=float(f"{value:.4g}"), unit=unit, meaning=meaning)


def update_scores(directory: Path, model: str, scores: Scores) -> None:
    """Replace one model's entry of ``scores.json`` and print it."""
    path = directory / "scores.json"
    every = json.loads(path.read_text()) if path.exists() else {}
    every[model] = scores
    path.write_text(json.dumps(dict(sorted(every.items())), indent=2) + "\n")
    for name, entry in scores.items():
        print(f"{model}: {name} = {entry['value']} {entry['unit']} ({entry['meaning']})")
