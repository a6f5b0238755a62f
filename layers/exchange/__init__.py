"""Weights in and models out: from PyTorch, as streams, and checked in exported graphs."""
