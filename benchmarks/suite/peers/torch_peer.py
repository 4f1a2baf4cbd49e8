"""PyTorch: nn.LSTM, nn.GRU, nn.RNN called with one frame, and the cell's own function; under inference_mode, no compiler."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from streamrnn.ir.graph import Array
from suite.cells import CellCase, Session, UnsupportedCaseError

ORDERS = {"LSTM": "ifco", "GRU": "rzh", "RNN": "h"}


def ways(case: CellCase, weights: str) -> dict[str, Session]:
    torch.set_num_threads(1)
    if weights == "f16":
        raise UnsupportedCaseError("only float32 and int8 are tried")
    if weights == "int8":
        return {"torch": Session(module_step(quantised(module(case), case), case), case.x_shape)}
    found = {"torch": Session(module_step(module(case), case), case.x_shape)}
    if case.steps == 1:
        found["torch cell"] = Session(cell_step(case), (case.batch, case.hidden))
    return found


def parameters(case: CellCase) -> list[torch.Tensor]:
    """Weights of input and state, then their biases, gates in torch's order."""
    order, B = ORDERS[case.cell], case.weights["B"]
    arrays = (case.weights["W"], case.weights["R"], B[0], B[1])
    return [torch.from_numpy(case.gates_as(order, a)) for a in arrays]


def module(case: CellCase) -> torch.nn.Module:
    live: Any = getattr(torch.nn, case.cell)(case.hidden, case.hidden)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    live.load_state_dict(dict(zip(names, parameters(case), strict=True)))
    return live.eval()


def quantised(live: torch.nn.Module, case: CellCase) -> torch.nn.Module:
    if case.cell == "RNN":
        raise UnsupportedCaseError("quantize_dynamic takes no nn.RNN")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.nn.Sequential(live)
        return torch.ao.quantization.quantize_dynamic(model, {type(live)}, torch.qint8)[0]


def zeros(case: CellCase) -> Any:
    state = torch.zeros(1, case.batch, case.hidden)
    return (state, state.clone()) if case.cell == "LSTM" else state


def module_step(live: Any, case: CellCase) -> Any:
    state, take = zeros(case), torch.from_numpy

    @torch.inference_mode()
    def step(x: Array) -> Array:
        nonlocal state
        y, state = live(take(x), state)
        return np.asarray(y)

    return step


def cell_step(case: CellCase) -> Any:
    """torch.lstm_cell and its kin: the function without the module around it."""
    function: Any = {"LSTM": torch.lstm_cell, "GRU": torch.gru_cell, "RNN": torch.rnn_tanh_cell}[case.cell]
    state = torch.zeros(case.batch, case.hidden)
    fixed, take = parameters(case), torch.from_numpy
    pair: Any = (state, state.clone())

    @torch.inference_mode()
    def lstm(x: Array) -> Array:
        nonlocal pair
        pair = function(take(x), pair, *fixed)
        return pair[0].numpy()

    @torch.inference_mode()
    def other(x: Array) -> Array:
        nonlocal state
        state = function(take(x), state, *fixed)
        return state.numpy()

    return lstm if case.cell == "LSTM" else other
