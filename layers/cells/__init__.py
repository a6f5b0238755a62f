"""The cells, a file each: equations, one step, and the layer named after it."""
