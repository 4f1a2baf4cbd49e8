"""The workstation side: import models trained elsewhere, prove that nothing changed on the way."""

from streamrnn_converters.importer import convert

__all__ = ["convert"]
