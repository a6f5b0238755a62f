"""What a language model is exported as: raw texts in and out, all of it in the graph.

serving_default  how probable each character or word of a text is, from all before it
generate         texts that go on as the model would
stream           the same two for a text that arrives, or is written, piece by piece
"""

import functools

import keras
import tensorflow as tf

import layers
from layers.exchange import checks
from recipes.common.carried import state_sizes
from recipes.common.other_runtimes import PortableModel
from recipes.common.portable_rules import portable
from recipes.common.publishing import INITIAL_STATE_INPUTS
from recipes.common.words import RULES, Words
from recipes.parts.language_model.characters import Characters


def signatures(model: keras.Model, symbols: Characters | Words, example: str) -> dict:
    streaming = layers.streaming_model(model, mask="real")
    sizes = state_sizes(streaming)
    writable = tf.constant(symbols.writable)

    @functools.partial(tf.function, autograph=False)  # traced once for all that call it
    @layers.without_gradients()
    def read(numbers, real, states):
        """(log-probabilities after each place, (batch, length, choices); the new states)."""
        answer = streaming({"numbers": numbers, "real": real, **states}, training=False)
        return tf.nn.log_softmax(answer["logits"]), {name: answer[name] for name in states}

    def begin(batch):
        """The states before any text."""
        zeros = {name: tf.zeros([batch, size]) for name, size in sizes.items()}
        return read(tf.fill([batch, 1], symbols.start), tf.fill([batch, 1], True), zeros)[1]

    def bounded(name, texts, further=0):
        """The numbers of `texts`, once they are known not to be too many."""
        numbers = symbols.numbers(texts)
        longest = tf.reduce_max(tf.concat([[0], numbers.row_lengths()], 0))
        places = numbers.nrows() * (longest + tf.cast(further, tf.int64))
        what = f"{symbols.name}, padded to the longest"
        return checks.at_most(symbols.most_places, what, name, numbers, places)

    def follow(numbers, states):
        """(log-probabilities before and after each of ragged `numbers`, the new states)."""
        real = tf.sequence_mask(numbers.row_lengths())
        # At a place that is left out, the layers repeat what they said before.
        first = [[0, 0], [1, 0]]
        return read(tf.pad(numbers.to_tensor(), first), tf.pad(real, first), states)

    def judge(numbers, every):
        """What each of ragged `numbers` got, of all that was said by `follow`."""
        each = tf.gather(every[:, :-1], numbers.to_tensor(), batch_dims=2)
        real = tf.sequence_mask(lengths := numbers.row_lengths())
        each = tf.where(real, each, 0.0)
        return {"log_probabilities": each, "lengths": tf.cast(lengths, tf.int32)}

    def score_texts(texts):
        numbers = bounded("texts", checks.shaped(texts, [None]))
        every, _ = follow(numbers, begin(numbers.nrows(tf.int32)))
        found = judge(numbers, every)
        lengths = tf.cast(tf.maximum(found["lengths"], 1), tf.float32)
        mean = tf.reduce_sum(found["log_probabilities"], axis=-1) / lengths
        return {**found, "perplexity": tf.exp(-mean)}

    # Whoever types takes the first of `next`; whoever writes draws from all. What was cut waits
    # in `tail_bytes`, which TF Serving's REST API knows by its name to be no UTF-8.
    inputs = {"chunk": tf.string, "tail_bytes": tf.string}
    inputs = {name: tf.TensorSpec([None], kind) for name, kind in inputs.items()}
    inputs |= {name: tf.TensorSpec([None, size]) for name, size in sizes.items()}

    def stream(*given):
        given = checks.inputs(inputs, given)
        states = {name: given[name] for name in sizes}
        text, tail = symbols.split_off_tail(tf.strings.join([given["tail_bytes"], given["chunk"]]))
        numbers = bounded("chunk", text)
        every, states = follow(numbers, states)
        last = tf.gather(every[:, -1], writable, axis=-1)
        best, order = tf.math.top_k(last, min(symbols.most_told, len(symbols.writable)))
        following = symbols.texts(tf.gather(writable, order))
        told = {"next": following, "next_log_probabilities": best}
        return {**judge(numbers, every), **told, "tail_bytes": tail, **states}

    def initial_state(batch_size):
        batch_size = checks.batch_size(batch_size)
        return {"tail_bytes": tf.fill([batch_size], ""), **begin(batch_size)}

    def generate(prompts, length, temperature, top_k, top_p, seed):
        prompts = checks.shaped(prompts, [None])
        length = checks.between("length", checks.shaped(length, []), 0, symbols.most_places)
        temperature = checks.shaped(temperature, [])
        temperature = checks.between("temperature", temperature, 0, tf.float32.max)
        top_k = checks.between("top_k", checks.shaped(top_k, []), 0, tf.int32.max)
        top_p = checks.between("top_p", checks.shaped(top_p, []), 0, 1)
        seed = checks.shaped(seed, [])
        prompts = tf.strings.unicode_transcode(prompts, "UTF-8", "UTF-8")  # else U+FFFD
        numbers = bounded("prompts", prompts, length)
        every, states = follow(numbers, begin(numbers.nrows(tf.int32)))

        def of_writable(every):
            return tf.gather(every[:, -1], writable, axis=-1)

        def step(drawn, states):
            numbers = tf.gather(writable, drawn)[:, None]
            every, states = read(numbers, tf.ones_like(numbers, tf.bool), states)
            return of_writable(every), states

        how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        found = layers.sample(step, of_writable(every), states, length=length, **how)
        written = symbols.texts(tf.gather(writable, found.tokens))
        return {"texts": tf.strings.join([prompts, tf.strings.reduce_join(written, axis=-1)])}

    scalars = {"length": tf.int32, "temperature": tf.float32, "top_k": tf.int32}
    scalars |= {"top_p": tf.float32, "seed": tf.int32}
    specs = {"prompts": tf.TensorSpec([None], tf.string)}
    specs |= {name: tf.TensorSpec([], kind) for name, kind in scalars.items()}
    asked = {"length": 3, "temperature": 0.8, "top_k": 0, "top_p": 1.0, "seed": 0}
    return {
        "serving_default": (
            score_texts,
            {"texts": tf.TensorSpec([None], tf.string)},
            {"texts": [example]},
        ),
        "generate": (generate, specs, {"prompts": [example], **asked}),
        "stream": (stream, inputs, {"chunk": [example], **initial_state(tf.constant(1))}),
        "initial_state": (initial_state, *INITIAL_STATE_INPUTS),
    }


def numeric(model: keras.Model, symbols: Characters | Words) -> PortableModel:
    """For ONNX and LiteRT: some characters or words more, and the states, go in."""
    streaming = layers.streaming_model(model)
    about = {"task": "writing", "start": symbols.start, "states": state_sizes(streaming)}
    if isinstance(symbols, Words):
        about |= {"rules": portable(RULES), "words": symbols.known}
    else:
        about["characters"] = symbols.known
    return PortableModel(lambda: {"model": streaming}, about, {}, lambda page: page)
