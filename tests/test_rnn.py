"""RNN keeps the contract of ops, with every activation and at every size of the last tile."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from contract import Contract
from recurrent import H0, LENS, cell, fed, given, lens, once, state

from streamrnn.kernels import activations

rnn = partial(cell, "RNN")


class TestSizes(Contract):
    cases = [  # noqa: RUF012
        *(rnn(6, n_in, H, label=f"I={n_in} H={H}") for n_in, H in ((1, 1), (1, 3), (2, 16), (3, 17), (4, 20))),
        rnn(4, 7, 33, batch=3, label="H=33 batch=3"),
    ]


class TestInputs(Contract):
    cases = [  # noqa: RUF012
        given(rnn(5, 3, 4, label="without B"), B=None),
        given(rnn(5, 3, 4, batch=2, label="constant initial state"), h=state(5, 4, 2)),
        fed(given(rnn(1, 3, 20, label="one step with the state fed"), h=state(5, 20)), H0),
        given(rnn(5, 3, 4, batch=2, label="lens of whole clips"), lens=lens(5, 5)),
        once(given(rnn(5, 3, 4, batch=3, label="lens"), lens=lens(3, 0, 5), h=state(5, 4, 3))),
        fed(given(rnn(5, 3, 4, batch=2, label="lens fed"), lens=lens(4, 1)), LENS),
    ]


class TestAttributes(Contract):
    cases = [  # noqa: RUF012
        rnn(6, 3, 5, clip=0.3, label="clip"),
        *(rnn(5, 3, 5, activations=(row.name,), label=row.name) for row in activations.TABLE.values()),
        *(
            rnn(5, 3, 5, activations=(row.name,), activation_alpha=(0.6,), label=f"{row.name} alpha")
            for row in activations.TABLE.values()
            if row.alpha is not None
        ),
        *(
            rnn(5, 3, 5, activations=(row.name,), activation_beta=(0.7,), label=f"{row.name} beta")
            for row in activations.TABLE.values()
            if row.beta is not None
        ),
    ]


class TestDirections(Contract):
    cases = [  # noqa: RUF012
        once(rnn(5, 3, 4, direction="reverse", label="reverse")),
        rnn(5, 3, 17, D=2, batch=2, direction="bidirectional", label="bidirectional"),
        given(
            rnn(
                5, 3, 4, D=2, batch=3, direction="bidirectional", label="bidirectional lens state",
                activations=("Tanh", "Relu"),
            ),
            lens=lens(2, 0, 5), h=state(5, 4, 3, 2),
        ),
        replace(rnn(3, 2, 4, batch=6, D=2, direction="bidirectional", label="time along the batch"), time={0: 1}),
    ]  # fmt: skip


class TestRefused(Contract):
    cases = [  # noqa: RUF012
        replace(rnn(5, 3, 4, direction="reverse", label="reverse"), refused="direction is 'reverse'"),
        replace(given(rnn(5, 3, 4, label="lens"), lens=lens(3)), refused="sequence_lens"),
    ]
