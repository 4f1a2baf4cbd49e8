"""What tests of Conv and ConvTranspose ask of any geometry."""

from __future__ import annotations

import numpy as np
from contract import Case, as_dict, close, onnxruntime_outputs

from streamrnn import Stream


def agrees_with_onnxruntime_and_the_reference(case: Case) -> None:
    """Assert that onnxruntime, the float64 reference and the compiled node give the same for the whole input."""
    (expected,) = case.reference
    close(onnxruntime_outputs(case)[0], expected, case.impl, "onnxruntime against the float64 reference")
    found = as_dict(case.engine, Stream(case.engine).step(case.inputs[0].reshape(case.engine.inputs["i0"].shape)))  # type: ignore[union-attr]
    close(found["o0"].reshape(expected.shape), expected, case.impl, "compiled against reference")


def stream_gives_the_whole_clip(case: Case) -> None:
    """Assert that the stream along axis 2 gives the reference's frames behind its delay, and zeros before."""
    engine = case.stream_engine
    found = as_dict(engine, Stream(engine).process(case.frames(engine)))["o0"]
    stream = engine.plan.outputs[0].stream
    assert stream is not None
    clip = np.moveaxis(case.reference[0], 2, 0)
    steps = found.reshape(len(found), *clip.shape[1:])
    assert not steps[: stream.delay].any()
    valid = steps[stream.delay :][: len(clip)]
    close(valid, clip[: len(valid)], case.impl, "stream against whole clip")
