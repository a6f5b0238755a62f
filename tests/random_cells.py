"""Cells drawn at random: an `update` from a small grammar, and its truth without our loops.

states    1 to 3, of sizes drawn apart
terms     x, states, constants, products with weights, and functions of terms: pointwise
          ones, choices, what carries no gradient, one-hot vectors, norms, conditions
"""

import keras
import numpy as np
import tensorflow as tf

import layers

POINTWISE = {
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "sin": tf.sin,
    "square": lambda a: 0.3 * a * a,
    "still": lambda a: tf.stop_gradient(a),
    "one hot": lambda a: tf.one_hot(tf.argmax(a, -1), a.shape[-1], dtype=a.dtype),
    "ones": tf.ones_like,
    "norm": lambda a: a / tf.norm(a + 2, axis=-1, keepdims=True),
    "softmax": tf.nn.softmax,
    "mean": lambda a: a - tf.reduce_mean(a, -1, keepdims=True),
    "sorted": lambda a: tf.sort(a, axis=-1),
    "silu": keras.ops.silu,
    "layer norm": lambda a: keras.ops.layer_normalization(a),
}
PAIRS = {
    "sum": tf.add,
    "product": tf.multiply,
    "difference": tf.subtract,
    "larger": tf.maximum,
    "choice": lambda a, b: tf.where(a > 0.1, a + b, b),
    "choice by the first": lambda a, b: tf.where(a < 0, b, 0.5 * b),
    "quotient": lambda a, b: a / (1 + tf.abs(tf.stop_gradient(b))),
    "condition": lambda a, b: tf.cond(tf.reduce_sum(a) > 0, lambda: a + b, lambda: b),
    "over the batch": lambda a, b: a - tf.reduce_mean(b, 0, keepdims=True),
}
RARE = ("condition", "over the batch")  # these leave the batch whole


class Drawn:
    """What was drawn of a cell: `new_states` evaluates it with any `dot`."""

    def __init__(self, seed: int):
        self.rng = rng = np.random.default_rng(seed)
        self.units = int(rng.choice([1, 2, 3, 5]))
        self.gates = int(rng.integers(1, 4))
        others = rng.choice([1, 2, self.units], size=rng.integers(0, 3))
        self.state_size = [self.units, *map(int, others)]
        self.constants = bool(rng.random() < 0.3)
        self.matrices, self.vectors = [], []
        self.terms = [self._term(size, 3) for size in self.state_size]
        if rng.random() < 0.5:  # the usual shape, changed a little
            self.terms[0] = ("tanh", ("sum", ("x", 0), self._product(self.units, 1)))
            if rng.random() < 0.5:
                self.terms[0] = (self._pair(), self.terms[0], self._term(self.units, 1))

    def _pair(self):
        names = [name for name in PAIRS if name not in RARE or self.rng.random() < 0.15]
        return str(self.rng.choice(names))

    def _term(self, size, depth):
        rng, kind = self.rng, self.rng.random()
        if depth == 0 or kind < 0.15:
            return self._leaf(size)
        if kind < 0.4:
            return self._product(size, depth - 1)
        if kind < 0.5:
            self.vectors.append(size)
            return ("scaled", len(self.vectors) - 1, self._term(size, depth - 1))
        if kind < 0.75:
            return (str(rng.choice(list(POINTWISE))), self._term(size, depth - 1))
        return (self._pair(), self._term(size, depth - 1), self._term(size, depth - 1))

    def _leaf(self, size):
        leaves = [("state", k) for k, s in enumerate(self.state_size) if s == size]
        leaves += [("x", g) for g in range(self.gates)] * (size == self.units)
        leaves += [("constant",)] * (self.constants and size == self.units)
        return leaves[self.rng.integers(len(leaves))] if leaves else self._product(size, 0)

    def _product(self, size, depth):
        rng = self.rng
        inner = int(rng.choice(self.state_size))
        term = self._term(inner, depth) if depth else ("state", self.state_size.index(inner))
        if size == inner == self.units and rng.random() < 0.5:
            return ("gate", int(rng.integers(self.gates)), term)
        if size == inner == self.units and self.gates == 1 and rng.random() < 0.5:
            return ("recurrent", term)
        self.matrices.append((inner, size))
        return ("dot", len(self.matrices) - 1, term)

    def new_states(self, cell, x, states, dot, constants=()):
        blocks = tf.split(x, self.gates, -1)

        def value(term):
            name, *rest = term
            if name in POINTWISE:
                return POINTWISE[name](value(*rest))
            if name in PAIRS:
                return PAIRS[name](*map(value, rest))
            if name == "x":
                return blocks[rest[0]]
            if name == "state":
                return states[rest[0]]
            if name == "constant":
                return tf.reduce_mean(constants[0], 1)
            if name == "scaled":
                return cell.drawn_vectors[rest[0]] * value(rest[1])
            if name == "gate":
                gate, a = rest
                return dot(value(a), cell.recurrent_kernel, gates=(gate, gate + 1))
            if name == "recurrent":
                return dot(value(rest[0]), cell.recurrent_kernel)
            return dot(value(rest[1]), cell.drawn_matrices[rest[0]])

        return tuple(value(term) for term in self.terms)


def cell_of(drawn: Drawn) -> layers.Cell:
    class RandomCell(layers.Cell):
        gates = drawn.gates

        def __init__(self, units, **kwargs):
            super().__init__(units, **kwargs)
            self.state_size = drawn.state_size

        @property
        def recurrent_shape(self):
            return (self.units, self.gates * self.units)

        def build(self, input_shape):
            super().build(input_shape)
            self.drawn_matrices = [self.add_weight(s) for s in drawn.matrices]
            self.drawn_vectors = [self.add_weight((s,)) for s in drawn.vectors]

        if drawn.constants:

            def update(self, x, states, dot, constants):
                return drawn.new_states(self, x, states, dot, constants)

        else:

            def update(self, x, states, dot):
                return drawn.new_states(self, x, states, dot)

    return RandomCell(drawn.units, dtype="float64")


def truth(cell, drawn, x, states, mask, constants):
    """Outputs and last states, from a loop in Python with the cell's own variables."""

    def dot(a, kernel, gates=None):
        kernel = tf.convert_to_tensor(kernel)
        if gates:
            kernel = kernel[:, gates[0] * drawn.units : gates[1] * drawn.units]
        return tf.matmul(a, kernel)

    outputs, y = [], tf.zeros_like(states[0])
    for t in range(x.shape[1]):
        p = tf.matmul(x[:, t], tf.convert_to_tensor(cell.kernel)) + cell.bias
        new = drawn.new_states(cell, p, states, dot, constants)
        if mask is not None:
            counts = mask[:, t, None]
            y = tf.where(counts, new[0], y)
            states = [tf.where(counts, n, old) for n, old in zip(new, states)]
        else:
            states, y = list(new), new[0]
        outputs.append(y)
    return tf.stack(outputs, 1), states
