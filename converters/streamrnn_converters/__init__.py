"""The workstation side: import models trained elsewhere, prove that nothing changed on the way."""

from streamrnn_converters.convert import convert

__all__ = ["convert"]
