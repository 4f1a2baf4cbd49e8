"""GRU keeps the contract of ops, in both forms of the reset gate and at every size of the last tile."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from contract import Case, Contract
from recurrent import H0, LENS, cell, fed, given, lens, once, state

gru = partial(cell, "GRU")

ACTIVATIONS = (
    ("Relu", "Sigmoid"),
    ("HardSigmoid", "Affine"),
    ("Tanh", "LeakyRelu"),
    ("ThresholdedRelu", "ScaledTanh"),
    ("Elu", "Softsign"),
    ("Softsign", "Softplus"),
)


def both(case: Case) -> list[Case]:
    """The case with the reset gate before and after the recurrent product."""
    return [
        replace(case, attrs={**case.attrs, "linear_before_reset": after}, label=f"{case.label} reset {name}")
        for after, name in ((0, "before"), (1, "after"))
    ]


class TestSizes(Contract):
    cases = [  # noqa: RUF012
        *(case for H in (1, 3, 16, 17, 20) for case in both(gru(6, 2, H, label=f"H={H}"))),
        *both(gru(4, 7, 33, batch=3, label="H=33 batch=3")),
    ]


class TestInputs(Contract):
    cases = [  # noqa: RUF012
        *both(given(gru(5, 3, 4, label="without B"), B=None)),
        *both(given(gru(5, 3, 4, batch=2, label="constant initial state"), h=state(5, 4, 2))),
        *both(fed(given(gru(1, 3, 20, label="one step with the state fed"), h=state(5, 20)), H0)),
        *both(given(gru(5, 3, 4, batch=2, label="lens of whole clips"), lens=lens(5, 5))),
        *both(once(given(gru(5, 3, 4, batch=3, label="lens"), lens=lens(3, 0, 5), h=state(5, 4, 3)))),
        fed(given(gru(5, 3, 4, batch=2, label="lens fed", linear_before_reset=1), lens=lens(4, 1)), LENS),
    ]


class TestAttributes(Contract):
    cases = [  # noqa: RUF012
        *both(gru(6, 3, 5, clip=0.3, label="clip")),
        *both(given(gru(6, 3, 5, clip=0.3, label="clip without B"), B=None)),
        *(gru(4, 3, 5, activations=names, linear_before_reset=1, label=" ".join(names)) for names in ACTIVATIONS),
        *both(
            gru(
                5, 3, 5, activations=("hardsigmoid", "SCALEDTANH"), activation_alpha=(0.3, 0.8),
                activation_beta=(0.4, 0.7), label="alpha and beta",
            )
        ),
    ]  # fmt: skip


class TestDirections(Contract):
    cases = [  # noqa: RUF012
        *both(once(gru(5, 3, 4, direction="reverse", label="reverse"))),
        *both(gru(5, 3, 17, D=2, batch=2, direction="bidirectional", label="bidirectional")),
        *both(
            given(
                gru(5, 3, 4, D=2, batch=3, direction="bidirectional", label="bidirectional lens state"),
                lens=lens(2, 0, 5), h=state(5, 4, 3, 2),
            )
        ),
        replace(gru(3, 2, 4, batch=6, D=2, direction="bidirectional", label="time along the batch"), time={0: 1}),
    ]  # fmt: skip


class TestRefused(Contract):
    cases = [  # noqa: RUF012
        replace(gru(5, 3, 4, direction="reverse", label="reverse"), refused="direction is 'reverse'"),
        replace(given(gru(5, 3, 4, label="lens"), lens=lens(3)), refused="sequence_lens"),
    ]
