"""Models out as LiteRT (export.py), and what runs a cell there (place.py)."""
