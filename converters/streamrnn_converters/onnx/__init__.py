"""ONNX files: reading them, and finding the state that goes in and out of a step model."""
