"""Weights in and models out: from PyTorch, as streams, as ONNX, and checked in exported graphs."""
