"""A linear-chain conditional random field (Lafferty et al. 2001; Lample et al. 2016).

A tag depends on the tag before it too, so a sequence's tags are scored together:

    s(X, y) = b[y_1] + Σ_{t>1} A[y_{t-1}, y_t] + Σ_t P[t, y_t] + e[y_n]
    p(y | X) = exp(s(X, y)) / Z          Z = Σ_ỹ exp(s(X, ỹ)), over all paths ỹ

    X  the sequence             P  emissions, (time, tags)
    y  its tags, y_1 … y_n      A  transitions, (tags, tags), from the row's tag to the column's
    n  steps that count         b, e  scores of the first tag and of the last, (tags,)

The layer writes the same sum as one log-potential a step (Lafferty's Λ), (tags, tags):

    Λ_t[i, j] = A[i, j] + P[t, j]        b[j] in place of A[i, j] in the first step that counts;
                                         e[j] is added in the last that does
    Λ_t = 0 on the diagonal, −∞ off it   in a step left out: it hands the tag before it on

so wherever steps are left out, s(X, y) = Σ_t Λ_t[y_{t-1}, y_t], with y_0 = 0 (any tag would do:
the first step's rows are alike). All else is a function of Λ:

    α_t[j] = log Σ_i exp(α_{t-1}[i] + Λ_t[i, j])        α_0 = 0 for the tag y_0, −∞ for others
    β_{t-1}[i] = log Σ_j exp(Λ_t[i, j] + β_t[j])        β_T = 0
    log Z = log Σ_j exp(α_T[j])
    p(y_{t-1} = i, y_t = j | X) = exp(α_{t-1}[i] + Λ_t[i, j] + β_t[j]) / Z = ∂ log Z / ∂Λ_t[i, j]
    v_t[j] = max_i (v_{t-1}[i] + Λ_t[i, j])             Viterbi: the score of the best path to j

For −∞ stand numbers that are large and finite: their differences are numbers too.
"""

import keras
import numpy as np
import tensorflow as tf

from layers.cell import anew

# Powers of two: the same numbers in every float type.
FORBIDDEN = -(2.0**30)  # the score of what `allowed` rules out
NO_PATH = -(2.0**40)  # from one tag to another in a step left out; no score comes near it


@keras.saving.register_keras_serializable(package="layers")
class CRF(keras.layers.Layer):
    """Emissions in, the log-potentials of a conditional random field out.

    It ends a model that tags sequences. It is trained with `layers.crf_loss`; its output is
    turned into tags by `layers.crf_decode`, into probabilities by `layers.crf_marginals`:

        scores = keras.layers.Dense(tags)(x)
        model = keras.Model(words, layers.CRF()(scores))
        model.compile("adam", layers.crf_loss)
        best, _ = layers.crf_decode(model(words))

    The weights are `transitions`, (tags, tags), `starts` and `ends`, (tags,). In the mixed
    policies the layer computes in float32.

    Args:
        allowed: Which tag may follow which: (tags, tags) booleans, from the row's to the
            column's. What is ruled out is never learned, and never decoded while there is
            another path. Default: all.
        allowed_starts, allowed_ends: Which tag may be a sequence's first, or last: (tags,)
            booleans. Default: all.
        initializer, regularizer: Of all three weights.
        **kwargs: `name`, `dtype`, `trainable`, as in any Keras layer.

    Call arguments:
        emissions: (batch, time, tags), a score for each tag; no probabilities.
        mask: (batch, time) booleans; False marks a step to leave out, anywhere. Keras hands
            it on from the layer before.

    Returns:
        (batch, time, tags, tags), of which it takes some copies to train: a thousand words
        with 50 tags are 10 MB.

    Raises:
        ValueError: If `emissions`, `mask` or what is allowed have the wrong rank or shape; if
            nothing is allowed.
    """

    def __init__(
        self,
        allowed=None,
        allowed_starts=None,
        allowed_ends=None,
        initializer="zeros",
        regularizer=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)  # float16 holds no sum over a sequence
        self.allowed = _booleans("allowed", allowed, rank=2)
        self.allowed_starts = _booleans("allowed_starts", allowed_starts, rank=1)
        self.allowed_ends = _booleans("allowed_ends", allowed_ends, rank=1)
        self.initializer = keras.initializers.get(initializer)
        self.regularizer = keras.regularizers.get(regularizer)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True

    def build(self, input_shape):
        tags = input_shape[-1]
        if tags is None:
            raise ValueError(
                f"`{self.name}` needs to know how many tags there are: the last dimension must be "
                f"an integer. Received: input shape {tuple(input_shape)}."
            )

        def scores(name, shape, allowed):
            argument = "allowed" if name == "transitions" else f"allowed_{name}"
            if allowed is not None and np.shape(allowed) != shape:
                raise ValueError(
                    f"`{self.name}` got `{argument}` of shape {np.shape(allowed)}, expected "
                    f"{shape}, for the emissions have {tags} tags."
                )
            return self.add_weight(
                shape, name=name, initializer=anew(self.initializer), regularizer=self.regularizer
            )

        self.transitions = scores("transitions", (tags, tags), self.allowed)
        self.starts = scores("starts", (tags,), self.allowed_starts)
        self.ends = scores("ends", (tags,), self.allowed_ends)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: tags})

    def call(self, emissions: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        emissions = tf.cast(emissions, dtype)
        counts = self._steps_that_count(emissions, mask)

        def scores(weight, allowed):
            weight = tf.cast(weight, dtype)
            return weight if allowed is None else tf.where(allowed, weight, FORBIDDEN)

        so_far = tf.cumsum(tf.cast(counts, "int32"), axis=1)
        in_all = tf.reduce_sum(tf.cast(counts, "int32"), axis=1, keepdims=True)
        first, last = so_far == 1, so_far == in_all  # of those that count
        before = tf.where(
            first[..., None, None],
            scores(self.starts, self.allowed_starts),
            scores(self.transitions, self.allowed),
        )
        after = tf.where(last[..., None], scores(self.ends, self.allowed_ends), 0)
        potentials = before + (emissions + after)[:, :, None, :]
        return tf.where(counts[..., None, None], potentials, _hands_on(potentials))

    def compute_mask(self, inputs, mask=None):
        return None  # it is in the potentials, and the loss has no time to be masked

    def _steps_that_count(self, emissions, mask):
        if mask is None:
            return tf.ones(tf.shape(emissions)[:2], "bool")
        mask = tf.cast(mask, "bool")
        if not mask.shape.is_compatible_with(emissions.shape[:2]):
            raise ValueError(
                f"`{self.name}` got a `mask` of shape {mask.shape}, expected (batch, time) = "
                f"{emissions.shape[:2]}, one boolean for each step of `emissions`."
            )
        return tf.ensure_shape(mask, emissions.shape[:2])

    def get_config(self):
        return {
            **super().get_config(),
            "allowed": self.allowed,
            "allowed_starts": self.allowed_starts,
            "allowed_ends": self.allowed_ends,
            "initializer": keras.initializers.serialize(self.initializer),
            "regularizer": keras.regularizers.serialize(self.regularizer),
        }


@keras.saving.register_keras_serializable(package="layers")
def crf_loss(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """The negative log-likelihood of the right tags, −log p(y | X), for each sequence.

    A loss of Keras's: `model.compile(loss=layers.crf_loss)`. Its sample weights are (batch,).

    Args:
        y_true: (batch, time) integers from 0, the right tags; those of steps left out do not
            matter. A number that is no tag, in a step that counts, makes the loss NaN.
        y_pred: (batch, time, tags, tags), what `layers.CRF` returns.

    Returns:
        (batch,). Where a right tag is one that `allowed` rules out, it is about 10⁹.

    Raises:
        ValueError: If a shape is wrong.
    """
    potentials = _checked("crf_loss", y_pred)
    labels = tf.convert_to_tensor(y_true)
    if labels.dtype.is_floating and labels.dtype.size < 4:
        raise ValueError(
            f"`crf_loss` got `y_true` in {labels.dtype.name}, which does not hold all whole "
            "numbers. Keras casts it to `keras.config.floatx()`: leave that at float32, and set a "
            "`keras.config.set_dtype_policy`."
        )
    labels = tf.cast(labels, "int32")
    if not labels.shape.is_compatible_with(potentials.shape[:2]):
        raise ValueError(
            f"`crf_loss` got `y_true` of shape {labels.shape}, expected (batch, time) = "
            f"{potentials.shape[:2]}: the number of the right tag of each step, not one-hot."
        )
    return _log_partition(potentials) - _score(potentials, labels)


def crf_decode(potentials: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The best path of tags through each sequence, by Viterbi's algorithm.

    Args:
        potentials: (batch, time, tags, tags), what `layers.CRF` returns.

    Returns:
        Its tags, (batch, time) int32, and its score s(X, y), (batch,). A step left out has
        the tag of the last step before it that counts; without one, 0.

    Raises:
        ValueError: If a shape is wrong.
    """
    potentials = _checked("crf_decode", potentials)
    v = _over_time(
        lambda v, step: tf.reduce_max(v[:, :, None] + step, 1), _start(potentials), potentials
    )
    before = tf.argmax(v[:, :-1, :, None] + potentials, 2, "int32")  # on the best path to each tag
    last = tf.argmax(v[:, -1], -1, "int32")
    path = _over_time(
        lambda tag, before: tf.gather(before, tag, batch_dims=1), last, before, backwards=True
    )
    return path[:, 1:], tf.reduce_max(v[:, -1], -1)


def crf_marginals(potentials: tf.Tensor) -> tf.Tensor:
    """How probable each tag is in each step, over all paths: p(y_t = j | X).

    Args:
        potentials: (batch, time, tags, tags), what `layers.CRF` returns.

    Returns:
        (batch, time, tags). In a step left out, those of the last step before it that counts;
        without one, all at tag 0.

    Raises:
        ValueError: If a shape is wrong.
    """
    potentials = _checked("crf_marginals", potentials)
    return tf.nn.softmax((_forward(potentials) + _backward(potentials))[:, 1:])


@tf.custom_gradient
def _log_partition(potentials):
    """log Z, (batch,). Its gradient, known as it is, needs none of a loop."""
    forward = _forward(potentials)

    def gradient(upstream):
        backward = _backward(potentials)
        pairs = forward[:, :-1, :, None] + potentials + backward[:, 1:, None, :]
        # Each step's own sum, which is log Z, so that it is 1 to the last digit.
        pairs = tf.exp(pairs - tf.reduce_logsumexp(pairs, [2, 3], keepdims=True))
        return upstream[:, None, None, None] * pairs

    return tf.reduce_logsumexp(forward[:, -1], -1), gradient


def _score(potentials, labels):
    """s(X, y), (batch,)."""
    tags = potentials.shape[-1]
    counts = tf.reduce_any(potentials != _hands_on(potentials), [2, 3])
    known = tf.reduce_all((labels >= 0) & (labels < tags) | ~counts, axis=1)
    path = _over_time(
        lambda before, label: tf.where(label < 0, before, label),
        tf.zeros(tf.shape(labels)[:1], "int32"),
        tf.where(counts, tf.clip_by_value(labels, 0, tags - 1), -1),
    )
    of_tag = tf.gather(potentials, path[:, :-1], batch_dims=2)
    steps = tf.gather(of_tag, path[:, 1:], batch_dims=2)
    return tf.where(known, tf.reduce_sum(steps, axis=1), np.nan)


def _forward(potentials):
    """α_0 … α_T, (batch, time + 1, tags)."""
    return _over_time(
        lambda alpha, step: tf.reduce_logsumexp(alpha[:, :, None] + step, 1),
        _start(potentials),
        potentials,
    )


def _backward(potentials):
    """β_0 … β_T, (batch, time + 1, tags)."""
    return _over_time(
        lambda beta, step: tf.reduce_logsumexp(step + beta[:, None, :], 2),
        tf.zeros_like(_start(potentials)),
        potentials,
        backwards=True,
    )


def _over_time(function, start, steps, backwards=False):
    """`start`, and what `function(before, step)` makes of it step by step.

    (batch, time, …) steps to (batch, time + 1, …), of which `start` is the first, or the last
    if it goes backwards. (`tf.scan` leaves it out, and fails if there are no steps.)
    """
    steps = _time_first(steps)
    time = tf.shape(steps)[0]

    def step(k, before, all_of_them):
        now = function(before, steps[time - 1 - k if backwards else k])
        return k + 1, now, all_of_them.write(time - 1 - k if backwards else k + 1, now)

    found = tf.TensorArray(start.dtype, time + 1, element_shape=start.shape)
    found = found.write(time if backwards else 0, start)
    *_, found = tf.while_loop(
        lambda k, *_: k < time, step, (0, start, found), maximum_iterations=time
    )
    known = None if steps.shape[0] is None else steps.shape[0] + 1
    return _time_first(tf.ensure_shape(found.stack(), [known, *start.shape]))  # back again


def _time_first(x):
    """(batch, time, …) to (time, batch, …)."""
    return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])


def _start(potentials):
    """α_0, (batch, tags)."""
    first = tf.zeros(tf.shape(potentials)[:1], "int32")
    return tf.one_hot(first, potentials.shape[-1], 0, NO_PATH, dtype=potentials.dtype)


def _hands_on(potentials):
    """The log-potential of a step left out, (tags, tags)."""
    return tf.one_hot(
        tf.range(potentials.shape[-1]), potentials.shape[-1], 0, NO_PATH, dtype=potentials.dtype
    )


def _checked(name, potentials):
    potentials = tf.convert_to_tensor(potentials)
    shape = potentials.shape
    if shape.rank != 4 or shape[-1] is None or shape[-1] != shape[-2]:
        raise ValueError(
            f"`{name}` got a tensor of shape {shape}, expected (batch, time, tags, tags), the "
            "log-potentials that `layers.CRF` returns. Put `layers.CRF()` behind the emissions."
        )
    # Half of a float holds no sum over a sequence.
    return tf.cast(potentials, "float32") if potentials.dtype.size < 4 else potentials


def _booleans(name, value, rank):
    """The argument `name` as lists of booleans, or None."""
    if value is None:
        return None
    found = np.asarray(value)
    shape = "(tags, tags)" if rank == 2 else "(tags,)"
    if found.ndim != rank or not np.isin(found, (0, 1)).all():
        raise ValueError(
            f"Received an invalid value for argument `{name}`, expected {shape} booleans, got "
            f"{value}."
        )
    if not found.any():
        raise ValueError(f"`{name}` rules everything out: at least one of it must be True.")
    return found.astype(bool).tolist()
