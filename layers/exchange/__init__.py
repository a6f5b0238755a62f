"""Weights in, from PyTorch; models out, as streams, ONNX and LiteRT; checks in exported graphs."""
