"""Models trained on streams of text: the states go from batch to batch."""

import keras
import tensorflow as tf

import layers


class Carried(keras.Model):
    """`model`, called on batch after batch of the same streams, each from the last states."""

    def __init__(self, model: keras.Model, streams: int):
        super().__init__(name="carried")
        self.output_name = model.output_names[0]
        self.streaming = layers.streaming_model(model)
        self.states = {
            name: tf.Variable(tf.zeros((streams, size)), trainable=False)
            for name, size in state_sizes(self.streaming).items()
        }
        self.built = True  # so that a run which goes on can load its weights

    def call(self, inputs, training=False):
        numbers, go_on = inputs
        states = {name: go_on * state for name, state in self.states.items()}
        answer = self.streaming({"numbers": numbers, **states}, training=training)
        for name, state in self.states.items():
            state.assign(answer[name])
        return answer[self.output_name]


class CarriedSampling(Carried):
    """The same; in training, the next word is told from so many drawn `samples`, not from all.

    Args:
        model: Its layer "logits" is a `TiedSoftmax` of what "vectors" puts out.
    """

    def __init__(self, model: keras.Model, streams: int, samples: int):
        vectors = model.get_layer("vectors").output
        super().__init__(keras.Model(model.input, vectors, name="vectors"), streams)
        self.samples, self.softmax = samples, model.get_layer("logits").layer

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if training:
            return self.softmax.sampled_loss(y_pred, y, self.samples)
        return self.softmax.loss(y_pred, y)


def state_sizes(streaming: keras.Model) -> dict[str, int]:
    """Of each state's name its size."""
    return {n: x.shape[-1] for n, x in streaming.input.items() if n in streaming.output}
