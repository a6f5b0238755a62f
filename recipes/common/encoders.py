"""What a language model of words leaves for other models to start from.

encoder.keras    numbers of words in, the states of its recurrent layer at each word out; its
                 name says whether it reads "forwards" or "backwards"
vocabulary.txt   the words, one a line, numbered from 2: 0 ends a text, 1 is any other word
"""

from pathlib import Path

from recipes.common import files

MODEL, VOCABULARY = "encoder.keras", "vocabulary.txt"


def write(folder: Path, model, words: list[str], backwards: bool) -> None:
    """Writes the encoder in `model`, a language model with the layers "embedding" and "read_1"."""
    import keras  # not above: arguments are read before TensorFlow is imported

    numbers = keras.Input((None,), dtype="int32", name="numbers")
    outputs = model.get_layer("read_1")(model.get_layer("embedding")(numbers))
    encoder = keras.Model(numbers, outputs, name="backwards" if backwards else "forwards")
    # By its ending Keras knows the format.
    files.write(folder / VOCABULARY, lambda beside: beside.write_bytes("\n".join(words).encode()))
    files.write(folder / MODEL, encoder.save)
