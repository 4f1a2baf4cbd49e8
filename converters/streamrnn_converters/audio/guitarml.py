"""GuitarML JSON (Proteus, NeuralPi, TS-M1N3 and the trainer behind them).

model_data   unit_type LSTM or GRU, input_size, hidden_size, num_layers, output_size, skip, bias_fl
state_dict   rec.weight_ih_l0 ..., lin.weight, lin.bias, as PyTorch stores them

Inputs behind the first are knobs that were 0 to 1 in training; skip = 1 adds the signal to the output. The file does not say
at which sample rate the model was trained.
Source  github.com/Alec-Wright/Automated-GuitarAmpModelling (SimpleRNN).
"""

from __future__ import annotations

from streamrnn_converters.audio._json import Fields, refuse, shown
from streamrnn_converters.audio.model import MAX_WIDTH, AudioModel, Conv, checked
from streamrnn_converters.audio.notes import knobs, meta_of
from streamrnn_converters.audio.torch_state import recurrent_layers


def read_guitarml(data: Fields, name: str) -> AudioModel:
    """The model of a parsed file. Raises ModelFileError."""
    info, weights = data.fields("model_data"), data.fields("state_dict")
    kind, unit = info.text("model", "SimpleRNN"), info.text("unit_type")
    if kind != "SimpleRNN" or unit not in ("LSTM", "GRU"):
        refuse(
            info.where,
            f"a {shown(kind)} of {shown(unit)} is not known",
            "a SimpleRNN of LSTM or GRU units is what GuitarML's players run; train one of these",
        )
    inputs, H = info.integer("input_size", 1, MAX_WIDTH), info.integer("hidden_size", 1, MAX_WIDTH)
    outputs, skip = info.integer("output_size", 1, MAX_WIDTH, 1), info.integer("skip", 0, MAX_WIDTH, 0)
    if skip > 1:
        refuse(info.where, f"skip is {skip}; 0 and 1 are known, which add nothing or the signal", "train with skip 0 or 1")
    layers = recurrent_layers(weights, "rec.", unit, H)
    if len(layers) != info.integer("num_layers", 1, 64, 1):
        refuse(weights.where, f"holds {len(layers)} recurrent layers, num_layers says {info.data['num_layers']}")
    if layers[0].width_in != inputs:
        refuse(weights.where, f"the first layer takes {layers[0].width_in} inputs, input_size says {inputs}")
    bias = weights.array("lin.bias", (outputs,)) if "lin.bias" in weights else None
    head = Conv.dense(weights.array("lin.weight", (outputs, H)), bias)
    taken = {"model", "unit_type", "input_size", "hidden_size", "output_size", "skip", "num_layers", "bias_fl"}
    meta = {**meta_of(data, skip={"model_data", "state_dict"}), **meta_of(info, skip=taken), "skip": skip}
    return checked(
        AudioModel(name, f"GuitarML JSON ({unit})", knobs(inputs - 1), (*layers, head), skip == 1, meta=meta), data.where
    )
