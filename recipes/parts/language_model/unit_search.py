"""What single units follow: quotes, brackets, how far a line has gone (Karpathy et al. 2015).

A text says by itself what there is to follow. Of all units of all states, the one whose
value goes with it most closely, by correlation, is chosen on one half of a passage; how
closely it does is measured on the other half.
"""

import keras
import numpy as np
import tensorflow as tf

import layers
from recipes.common.carried import state_sizes
from recipes.parts.language_model.characters import Characters

READ = 6000  # characters
SHOWN = 320


def features(text: str) -> dict[str, np.ndarray]:
    """What can be followed in `text`, a number for each character, once it is read."""
    quoted = depth = 0
    since = {"line": 0, "word": 0, "paragraph": 0}
    rows, before = [], ""
    for character in text:
        if character == '"':  # one that opens stands behind a space or bracket
            quoted = int(not before or before.isspace() or before in "([{")
        depth = max(0, depth + (character in "([{") - (character in ")]}"))
        for name, ends in (
            ("line", character == "\n"),
            ("word", not character.isalpha()),
            ("paragraph", character == before == "\n"),
        ):
            since[name] = 0 if ends else since[name] + 1
        before = character
        rows.append([quoted, depth, *since.values()])
    names = ["within quotes", "depth of brackets", *(f"place in the {name}" for name in since)]
    return {name: np.array(column, float) for name, column in zip(names, zip(*rows))}


def states(model: keras.Model, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """The states of `model` after each of `numbers`, (time, units), by name."""
    streaming = layers.streaming_model(model)
    start = {name: tf.zeros((1, size)) for name, size in state_sizes(streaming).items()}

    def step(states, number):
        answer = streaming({"numbers": tf.reshape(number, (1, 1)), **states}, training=False)
        return {name: answer[name] for name in start}

    found = tf.function(lambda numbers: tf.scan(step, numbers, start))(tf.constant(numbers))
    return {name: state.numpy()[:, 0] for name, state in found.items()}


def correlations(values: np.ndarray, feature: np.ndarray) -> np.ndarray:
    """Of each column of `values` with `feature`; 0 where either never changes."""
    values, feature = values - values.mean(0), feature - feature.mean()
    scale = np.linalg.norm(values, axis=0) * np.linalg.norm(feature)
    return np.where(scale > 1e-6, feature @ values / np.maximum(scale, 1e-6), 0.0)


def search(model: keras.Model, characters: Characters, text: str) -> list[dict]:
    """For each feature that `text` has, a passage of it and the unit that follows best.

    Returns:
        For each its "title", "feature", "unit", "correlation", "text" and "values", −1 to 1.
    """
    text = text[:READ]
    numbers = characters.numbers(tf.constant([text])).flat_values.numpy()
    by_name = states(model, numbers)
    units = [(name, k) for name, state in by_name.items() for k in range(state.shape[1])]
    values, half = np.concatenate(list(by_name.values()), axis=1), len(text) // 2
    found = []
    for name, feature in features(text).items():
        if not all(np.any(np.diff(part) < 0) for part in (feature[:half], feature[half:])):
            continue  # it never comes to an end
        chosen = correlations(values[:half], feature[:half])
        best = int(np.argmax(np.abs(chosen)))
        measured = float(correlations(values[half:, [best]], feature[half:])[0])
        begin = text.find("\n", half, len(text) - SHOWN) + 1 or half
        shown = slice(begin, begin + SHOWN)
        of_unit = values[shown, best] * np.sign(chosen[best])
        of_unit -= np.mean(values[half:, best]) * np.sign(chosen[best])
        (state, unit) = units[best]
        found.append(
            {
                "title": f"{name}: unit {unit} of {state}, correlation {abs(measured):.2f}",
                "feature": name,
                "state": state,
                "unit": unit,
                "correlation": measured,
                "text": text[shown],
                "values": of_unit / max(np.max(np.abs(of_unit)), 1e-6),
            }
        )
    return found
