"""Models out as ONNX (export.py), and what runs a cell there (place.py)."""
