"""Characters and their numbers, the same for a file that is read and in an exported graph."""

import tensorflow as tf

UNKNOWN = 0


class Characters:
    """The characters of a text, numbered from 1 in the order of Unicode; any other is 0.

    Of bytes that are no UTF-8, each run is one character, U+FFFD.
    """

    name = "characters"
    # In a request, so that its memory and time are bounded: those to be written among them,
    # each text padded to the longest.
    most_places = 2**13

    def __init__(self, text: str):
        self.known = sorted(set(text))
        self.codes = tf.constant([ord(character) for character in self.known])
        self.writable = range(1, len(self))
        self.most_told = len(self.known)
        self.start = int(self.numbers(tf.constant(["\n"])).flat_values[0])  # what a text follows

    def __len__(self) -> int:
        """How many numbers there are."""
        return len(self.known) + 1

    def numbers(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """(batch,) texts to a ragged int32 (batch, characters)."""
        codes = tf.strings.unicode_decode(texts, "UTF-8")
        return tf.ragged.map_flat_values(self._number, codes)

    def _number(self, codes):
        place = tf.searchsorted(self.codes, codes)
        known = tf.gather(self.codes, tf.minimum(place, len(self.known) - 1)) == codes
        return tf.where(known, place + 1, UNKNOWN)

    def texts(self, numbers: tf.Tensor) -> tf.Tensor:
        """(…,) known numbers to (…,) strings of one character each."""
        return tf.gather(tf.constant(self.known), numbers - 1)

    def split_off_tail(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return split_off_tail(texts)


def split_off_tail(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(the whole characters of UTF-8, the bytes of one that is not whole yet)."""
    length = tf.strings.length(texts)
    last = tf.strings.join(["\0\0\0", texts])
    last = tf.strings.substr(last, length, 3 * tf.ones_like(length))
    last = tf.cast(tf.io.decode_raw(last, tf.uint8, fixed_length=3), tf.int32)
    # A first byte says how many there are: 110… two, 1110… three, 11110… four.
    needed = tf.reduce_sum(tf.cast(last[..., None] >= [0xC0, 0xE0, 0xF0], tf.int32), -1) + 1
    continues = (last >= 0x80) & (last < 0xC0)
    tail = tf.zeros_like(length)
    for k in (1, 2, 3):
        begun = (needed[:, -k] > k) & tf.reduce_all(continues[:, 4 - k :], axis=-1)
        tail = tf.where(begun, k, tail)
    whole = tf.strings.substr(texts, tf.zeros_like(length), length - tail)
    return whole, tf.strings.substr(texts, length - tail, tail)
