"""The one C signature of a compiled model, for every consumer: Python, a foreign audio thread, an exported library.

    void    init(const void *weights, void *arena);
    int64_t run (const void *weights, void *arena, const void *const *inputs, void *const *outputs, int64_t steps);
    int64_t step(void *const *where);
    int64_t pool(const void *weights, void *arenas, const uint8_t *active,
                 const void *const *inputs, void *const *outputs, int64_t slots);

    int64_t lanes(const void *weights, void *memory, const uint8_t *active,
                  const void *const *inputs, void *const *outputs, int64_t groups);

`init` writes the initial state. `run` makes `steps` steps: step i reads inputs[k] + i * (bytes of input k) and writes
outputs[k] + i * (bytes of output k), in the order of the plan's ports; buffers of the caller, which may be the same for
input and output. It returns the number of steps made: fewer where the policy is RAISE and an input frame is not finite. The
arena may lack the `block_bytes` at its end where `steps` is 1.
`step` is `run` of one step with its four pointers in a table, for callers to whom each argument is dear (Python).
`pool` makes one step in each active slot of contiguous arenas, with slot-major input and output rows, and returns a count
of the slots that refused their frame.
`lanes`, in an object of its own, does the same for groups of 16 slots; `pool_driver` describes their memory.

The arena starts with a header of int64: [0] steps done, [1] policy for non-finite input, [2] frames refused or mended.
"""

from __future__ import annotations

from enum import IntEnum

#: header fields, in units of int64
HEADER_STEPS = 0
HEADER_POLICY = 1
HEADER_MENDED = 2

INIT = "streamrnn_init"
RUN = "streamrnn_run"
STEP = "streamrnn_step"
POOL = "streamrnn_pool"
LANES = "streamrnn_lanes"

#: slots of a group: the lanes of a vector
GROUP = 16


class Policy(IntEnum):
    """What a step does with an input frame that holds NaN or Inf.

    PASS:  compute with it, as onnxruntime would; the state may stay NaN until `reset`.
    RAISE: refuse the frame before anything is changed.
    HOLD:  keep the last finite value of each element that is not finite.
    RESET: start from the initial state, with zero for each element that is not finite.
    """

    PASS = 0
    RAISE = 1
    HOLD = 2
    RESET = 3
