"""Several processes that train one model, each on its rows of every batch.

All read the same batches in the same order. Row i is of worker i mod N, which finds the gradient
g_w of its rows' mean loss; n_w is what that mean is over: rows, or words that count. The step is

    g = Σ_w n_w g_w / Σ_w n_w

clipped and applied by each worker for itself. It is that of one process with the whole batch, and
so are the weights, which stay the same in all workers.

What is summed goes through tf.distribute.MultiWorkerMirroredStrategy, which TF_CONFIG configures.
Keras's own `fit` fails under it (keras-team/keras#20585, ray-project/ray#47464), and would clip
before it sums. So models are built outside of its scope, as in one process, and only
`train_step`, `test_step` and an epoch's metrics are replaced here.
"""

import contextlib
import functools
import json
import re
import signal
import time
from collections.abc import Iterator

import keras
import tensorflow as tf
from tensorflow.python.eager import context

from recipes.common import cluster

OWN = cluster.ALONE  # until `joined`
_strategy: tf.distribute.Strategy | None = None


def count() -> int:
    return len(OWN.addresses)


def is_chief() -> bool:
    return OWN.index == 0


@contextlib.contextmanager
def joined(said: dict) -> Iterator[None]:
    """Inside, this process is a worker, if TF_CONFIG says so; it waits until all are there.

    Args:
        said: What must be the same for all, {name: value}.

    Raises:
        SystemExit: If they differ, or if a worker goes away.
    """
    global OWN, _strategy
    OWN = cluster.own()
    if count() == 1:
        yield
        return
    cluster.end_with_chief()
    problem = choose_gpu()
    cluster.meet(OWN, {**said, "problem": problem} if problem else said)
    with said_when_others_stop():
        _strategy = strategy()
        agree({})
        try:
            yield
            agree({})  # so that nobody ends while others work
        except Finished:
            pass
        # Who ended now might owe others the last answer, and they would say that it had stopped.
        # By another they know that all have it, be it that one who gave it is gone.
        with contextlib.suppress(tf.errors.OpError):
            agree({})
        if is_chief():  # whom TensorFlow has all others report to
            time.sleep(2)


def strategy() -> tf.distribute.Strategy:
    """Joins the others, all of which are about to do so."""
    # By default, it would wait for an hour for who has died meanwhile.
    here = context.context()
    seconds = {"cluster_register_timeout_in_ms": 45_000, "heartbeat_timeout_in_ms": 20_000}
    here.configure_coordination_service = functools.partial(
        here.configure_coordination_service, **seconds
    )
    found = tf.distribute.MultiWorkerMirroredStrategy()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # else TensorFlow takes it as a mere notice
    return found


def choose_gpu() -> str | None:
    """Leaves this process one GPU, if there are any, that no other worker has; or says why not."""
    gpus = tf.config.list_physical_devices("GPU")
    host = OWN.addresses[OWN.index].split(":")[0]
    here = [i for i, address in enumerate(OWN.addresses) if address.split(":")[0] == host]
    if gpus and len(here) > len(gpus):
        return (
            f"{host} has {len(gpus)} GPUs for {len(here)} workers. Start fewer, or none of them "
            "on a GPU: CUDA_VISIBLE_DEVICES=-1"
        )
    if gpus:
        tf.config.set_visible_devices(gpus[here.index(OWN.index)], "GPU")
    return None


@contextlib.contextmanager
def said_when_others_stop() -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
        gone += (tf.errors.FailedPreconditionError, tf.errors.DeadlineExceededError)
        if not isinstance(error, gone):
            raise
        which = {*re.findall(r"/task:(\d+)", str(error))} - {str(OWN.index)}
        who = f"Worker {which.pop()}" if len(which) == 1 else "Another worker"
        raise SystemExit(
            f"\n{who} has stopped, so worker {OWN.index} does. Once all have, the same command, "
            "without --restart, goes on from the last epoch."
        ) from error


# --- Sums over the workers ------------------------------------------------------------------


def all_sum(tensors: list) -> list:
    """The sums over all workers; of `tf.IndexedSlices`, the slices of all. None stays None."""

    def summed():
        replica = tf.distribute.get_replica_context()
        dense = [tf.identity(x) for x in tensors if isinstance(x, tf.Tensor)]
        sums = iter(replica.all_reduce("SUM", dense) if dense else [])

        def of(x):
            if not isinstance(x, tf.IndexedSlices):
                return x if x is None else next(sums)
            values, rows = (replica.all_gather(tf.identity(y), 0) for y in (x.values, x.indices))
            return tf.IndexedSlices(values, rows, x.dense_shape)

        return [of(x) for x in tensors]

    with tf.device(_strategy.extended.worker_devices[0]):
        return _strategy.run(summed)


@tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int32)])
def joined_now(numbers: tf.Tensor) -> tf.Tensor:
    """The numbers of all workers, the chief's first."""
    with tf.device(_strategy.extended.worker_devices[0]):
        mine = tf.identity(numbers)
        return _strategy.run(lambda: tf.distribute.get_replica_context().all_gather(mine, 0))


def agree(said: dict) -> None:
    """Waits for all workers, and makes sure that they say the same.

    Raises:
        SystemExit: In every worker, if they differ.
    """
    if count() > 1:
        codes = tf.constant([*json.dumps(said).encode(), 0], tf.int32)  # 0 ends it
        found = bytes(joined_now(codes).numpy().tolist()).split(b"\0")[:-1]
        cluster.refuse_differences(dict(enumerate(map(json.loads, found))))


def leave_the_rest_to_the_chief() -> None:
    """Ends this process once the chief has finished, unless it is the chief."""
    if not is_chief():
        agree({})
        raise Finished


class Finished(Exception):
    """The chief does what is left to be done."""


# --- Data: each worker's rows ----------------------------------------------------------------


def share(rows: int) -> int:
    """How many of a batch's rows are this worker's.

    Raises:
        SystemExit: If there are fewer than workers.
    """
    if rows < count():
        raise SystemExit(f"There are {count()} workers for {rows} rows of a batch: start fewer.")
    return len(range(OWN.index, rows, count()))


class Rows:
    """Of each batch of a dataset this worker's rows, with their number and the whole batch's.

    Where there are fewer rows than workers, some get one that is another's, and the number 0.
    """

    def __init__(self, data: tf.data.Dataset):
        with tf.device("CPU"):
            self.read = tf.Variable(0, dtype=tf.int64)  # a fingerprint of all batches
        self.data = data.map(self.of_batch).prefetch(2)

    def of_batch(self, *batch):
        flat = tf.nest.flatten(batch)
        for x in flat:
            self.read.assign(self.read * 31 + hashed(x))
        rows = next(tf.shape(x)[0] for x in flat if x.shape.rank != 0)
        mine = tf.range(tf.minimum(OWN.index, tf.maximum(rows - 1, 0)), rows, count())
        number = tf.where(OWN.index < rows, tf.size(mine), 0)

        def cut(x):  # a number is for all rows
            return x if x.shape.rank == 0 else tf.gather(x, mine)

        return tf.nest.map_structure(cut, batch), number, rows


def hashed(x: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(tf.io.serialize_tensor(x), 2**31)


# --- Steps: what `fit` calls ------------------------------------------------------------------


def share_steps(
    model: keras.Model, train: tf.data.Dataset, validation: tf.data.Dataset
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Has `model`, whose weights become the chief's, learn with all workers.

    Args:
        model: If it has a `train_step` of its own, that sums its gradients by `all_sum`, and its
            `y` are weights, zero for a row that is another worker's.

    Returns:
        What `fit` is to be given for `train` and `validation`.
    """
    rows = Rows(train), Rows(validation)
    summed = tf.function(all_sum, autograph=False)
    start_alike(model, summed)
    sum_metrics(model, rows, summed)
    if type(model).train_step is keras.Model.train_step:
        replace_steps(model)
        return tuple(x.data for x in rows)

    def counted(batch, number, _):
        x, y = batch
        return x, y * tf.cast(number > 0, y.dtype)

    return tuple(x.data.map(counted) for x in rows)


def start_alike(model, summed):
    variables = [*model.variables, *model.optimizer.variables]
    floats = [x for x in variables if x.dtype.startswith("float")]
    mine = [x.value + 0 if is_chief() else tf.zeros_like(x.value) for x in floats]
    for variable, value in zip(floats, summed(mine)):
        variable.assign(value)
    for variable in variables:  # each draws its own masks
        if variable.name == "seed_generator_state":
            variable.assign(variable + tf.cast(1_000_003 * OWN.index, variable.dtype))


def sum_metrics(model, rows, summed):
    """Has an epoch's metrics be of all workers, once they have read the same batches."""
    local = model.get_metrics_result

    def get_metrics_result():
        if tf.executing_eagerly():  # at an epoch's end
            agree({"data read, by fingerprint": [int(x.read) for x in rows]})
            parts = [x for metric in model.metrics for x in metric.variables]
            for variable, value in zip(parts, summed([x.value + 0 for x in parts])):
                variable.assign(value)
        return local()

    model.get_metrics_result = get_metrics_result


def replace_steps(model):
    by_weight = any(
        getattr(loss, "reduction", None) == "mean_with_sample_weight"
        for loss in tf.nest.flatten(model.loss)
    )

    def answer(batch, number, training):
        """(the answers, the mean loss, what it is the mean over)."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        found = model(x, training=training)
        loss = model.compute_loss(x, y, found, weights, training=training)
        weighs = by_weight and weights is not None
        over = tf.reduce_sum(weights) if weighs else tf.cast(number, tf.float32)
        return found, loss, tf.where(number > 0, over, 0.0)

    def learned(batch, number):
        with tf.GradientTape() as tape:
            found, loss, over = answer(batch, number, True)
        return found, loss, over, tape.gradient(loss, model.trainable_variables)

    xla = {"jit_compile": model.jit_compile or None, "autograph": False, "reduce_retracing": True}
    learned = tf.function(learned, **xla)  # not the sums, which XLA can't do
    model.jit_compile = False

    def score(batch, number, rows, found, loss):
        model._loss_tracker.update_state(loss, sample_weight=rows)  # of all workers
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        return tf.cond(
            number > 0,
            lambda: model.compute_metrics(x, y, found, weights),
            model.get_metrics_result,
        )

    def train_step(data):
        batch, number, rows = data
        found, loss, over, gradients = learned(batch, number)
        *sums, loss, over = all_sum([*(scaled(x, over) for x in gradients), loss * over, over])
        part = tf.math.divide_no_nan(1.0, over)
        model.optimizer.apply([scaled(x, part) for x in sums], model.trainable_variables)
        return score(batch, number, rows, found, loss * part)

    def test_step(data):
        batch, number, rows = data
        found, loss, over = answer(batch, number, False)
        loss, over = all_sum([loss * over, over])
        return score(batch, number, rows, found, tf.math.divide_no_nan(loss, over))

    model.train_step, model.test_step = train_step, test_step


def scaled(x, by):
    if isinstance(x, tf.IndexedSlices):
        return tf.IndexedSlices(x.values * by, x.indices, x.dense_shape)
    return x if x is None else x * by
