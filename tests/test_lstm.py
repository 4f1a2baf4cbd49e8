"""LSTM keeps the contract of ops, with every attribute and at every size of the last tile."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from contract import Contract, floats
from recurrent import C0, H0, LENS, cell, fed, given, lens, once, state

from streamrnn.ir.graph import Array

lstm = partial(cell, "LSTM")

ACTIVATIONS = (
    ("Relu", "Tanh", "Sigmoid"),
    ("Affine", "LeakyRelu", "ThresholdedRelu"),
    ("HardSigmoid", "ScaledTanh", "Elu"),
    ("Softsign", "Softplus", "HardSigmoid"),
)


def states(H: int, batch: int = 1, D: int = 1) -> dict[str, Array]:
    return {"h": state(5, H, batch, D), "c": state(6, H, batch, D)}


class TestSizes(Contract):
    cases = [  # noqa: RUF012
        *(lstm(6, 2, H, label=f"H={H}") for H in (1, 3, 16, 17, 20)),
        lstm(4, 7, 33, batch=3, label="H=33 batch=3"),
        once(lstm(1, 1, 1, label="one frame")),
    ]


class TestInputs(Contract):
    cases = [  # noqa: RUF012
        given(lstm(5, 3, 4, label="without B"), B=None),
        given(lstm(5, 3, 4, batch=2, label="constant initial states"), **states(4, 2)),
        fed(given(lstm(5, 3, 4, label="states fed"), **states(4)), H0, C0),
        fed(given(lstm(1, 3, 20, label="one step with states fed"), **states(20)), H0, C0),
        given(lstm(5, 3, 20, batch=2, label="peepholes"), **states(20, 2), P=floats(7, 1, 60)),
        given(lstm(5, 3, 4, label="peepholes without states"), P=floats(7, 1, 12)),
        given(lstm(5, 3, 4, batch=2, label="lens of whole clips"), lens=lens(5, 5)),
        once(given(lstm(5, 3, 4, batch=2, label="lens"), lens=lens(3, 5), **states(4, 2))),
        once(given(lstm(5, 3, 4, batch=2, label="lens 0"), lens=lens(0, 2), **states(4, 2))),
        fed(given(lstm(5, 3, 4, batch=2, label="lens fed"), lens=lens(4, 1)), LENS),
    ]


class TestAttributes(Contract):
    cases = [  # noqa: RUF012
        lstm(6, 3, 5, clip=0.3, label="clip"),
        lstm(6, 3, 5, input_forget=1, label="input_forget"),
        given(lstm(6, 3, 5, clip=0.3, input_forget=1, label="peepholes clip input_forget"), P=floats(7, 1, 15)),
        *(lstm(5, 3, 5, activations=names, label=" ".join(names)) for names in ACTIVATIONS),
        lstm(
            5, 3, 5, activations=("HardSigmoid", "tanh", "LEAKYRELU"),
            activation_alpha=(0.3, 0.05), activation_beta=(0.4,), label="alpha and beta for those that have them",
        ),
    ]  # fmt: skip


class TestDirections(Contract):
    cases = [  # noqa: RUF012
        once(lstm(5, 3, 4, direction="reverse", label="reverse")),
        lstm(5, 3, 17, D=2, batch=2, direction="bidirectional", label="bidirectional"),
        given(lstm(5, 3, 4, D=2, batch=2, direction="bidirectional", label="bidirectional lens"), lens=lens(2, 5)),
        given(
            lstm(5, 3, 4, D=2, batch=3, direction="bidirectional", label="bidirectional states peepholes lens"),
            lens=lens(4, 0, 1), P=floats(7, 2, 12), **states(4, 3, 2),
        ),
        lstm(
            4, 2, 3, D=2, direction="bidirectional", label="activations of each direction",
            activations=("HardSigmoid", "Tanh", "LeakyRelu", "Sigmoid", "ScaledTanh", "Tanh"),
            activation_alpha=(0.3, 0.05, 0.8), activation_beta=(0.4, 0.7),
        ),
        replace(lstm(3, 2, 4, batch=6, D=2, direction="bidirectional", label="time along the batch"), time={0: 1}),
    ]  # fmt: skip


class TestRefused(Contract):
    cases = [  # noqa: RUF012
        replace(lstm(5, 3, 4, direction="reverse", label="reverse"), refused="direction is 'reverse'"),
        replace(lstm(5, 3, 4, D=2, direction="bidirectional", label="both"), refused="--lookahead", time={0: 0}),
        replace(given(lstm(5, 3, 4, label="lens"), lens=lens(3)), refused="sequence_lens"),
        replace(lstm(5, 3, 4, label="features"), refused="features", time={0: 2}),
    ]
