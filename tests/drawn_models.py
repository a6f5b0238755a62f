"""Small models drawn at random, and inputs for them, to be exported to other runtimes."""

import keras
import numpy as np

import layers

FEATURES = 3


def perturbed(model, seed=1):
    """`model`, no bias zero and no two units alike."""
    random = np.random.default_rng(seed)
    model.set_weights([w + random.uniform(-0.3, 0.3, size=w.shape) for w in model.get_weights()])
    return model


def drawn_inputs(model, rows, steps, seed=0):
    """By name: numbers with zeros for `Masking` to find, tokens, masks."""
    random, values = np.random.default_rng([rows, steps, seed]), {}
    for x in model.inputs:
        shape = (rows, *(size or steps for size in x.shape[1:]))
        if x.dtype == "float32":
            values[x.name] = random.normal(size=shape).astype("float32")
            if len(shape) == 3:
                values[x.name][random.random(shape[:2]) < 0.4] = 0
        elif x.dtype == "bool":
            values[x.name] = random.random(shape) < 0.6
        else:
            values[x.name] = random.integers(0, 4, size=shape).astype("int32")
    return values


@keras.saving.register_keras_serializable("drawn_models")
class AttentiveCell(layers.Cell):
    """It reads a constant, and counts steps in a second state."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.state_size = [units, 1]

    def update(self, x, states, dot, constants):
        (h, n), (memory,) = states, constants
        weights = keras.ops.softmax(keras.ops.einsum("bu,bpu->bp", h, memory))
        read = keras.ops.einsum("bp,bpu->bu", weights, memory)
        return self.activation(x + dot(h + read, self.recurrent_kernel)) / (1 + n), n + 1


class Drawn:
    """A small model as a list of choices, built with our layers or with Keras's."""

    KINDS = ("LSTM", "GRU", "GRU before", "GRU replace", "SimpleRNN", "own", "stack", "attentive")

    def __init__(self, seed):
        self.random = random = np.random.default_rng(seed)
        self.start = str(random.choice(["numbers", "Masking", "tokens", "mask"]))
        self.steps = None if random.random() < 0.8 else 5
        count = int(random.choice([1, 1, 2]))
        self.layers = [self._layer(last=k == count - 1) for k in range(count)]
        self.end = str(random.choice(["", "Dense", "Norm"]))

    def _chance(self, share):
        return bool(self.random.random() < share)

    def _layer(self, last):
        kind, units = str(self.random.choice(self.KINDS)), int(self.random.choice([1, 4, 5]))
        common = {
            "return_sequences": not last or self._chance(0.5),
            "return_state": last and self._chance(0.3),
            "go_backwards": self._chance(0.2),
            "zero_output_for_mask": self._chance(0.3),
        }
        own = {"use_bias": self._chance(0.8)}
        if self._chance(0.3):
            own["activation"] = str(self.random.choice(["relu", "linear", "softsign"]))
        if "GRU" in kind or kind == "LSTM":
            own["recurrent_activation"] = "hard_sigmoid" if self._chance(0.3) else "sigmoid"
        if "GRU" in kind:
            own["reset_after"] = kind != "GRU before"
        if kind == "GRU replace":
            own["update_gate"] = "replace"
        both = kind != "attentive" and self._chance(0.35)
        merge = self.random.choice(["concat", "sum", "ave", "mul"]) if both else None
        return {
            "kind": kind,
            "units": units,
            "common": common,
            "own": own,
            "merge": merge and str(merge),
            "given states": kind not in ("attentive", "stack") and self._chance(0.3),
        }

    @property
    def in_keras(self):
        return all(one["kind"] in ("LSTM", "GRU", "GRU before", "SimpleRNN") for one in self.layers)

    def build(self, library):
        inputs, mask = [], None
        if self.start == "tokens":
            inputs.append(keras.Input((self.steps,), dtype="int32"))
            y = keras.layers.Embedding(4, FEATURES, mask_zero=True)(inputs[0])
        else:
            inputs.append(keras.Input((self.steps, FEATURES)))
            y = keras.layers.Masking()(inputs[0]) if self.start == "Masking" else inputs[0]
        if self.start == "mask":
            mask = keras.Input((self.steps,), dtype="bool")
            inputs.append(mask)
        for one in self.layers:
            how = {} if mask is None else {"mask": mask}
            layer = self._built(one, library)
            if one["kind"] == "attentive":
                memory = keras.Input((2, one["units"]))
                inputs.append(memory)
                how["constants"] = [memory]
            elif one["given states"]:
                count = (1 + (one["kind"] in ("LSTM", "own"))) * (2 if one["merge"] else 1)
                states = [keras.Input((one["units"],)) for _ in range(count)]
                inputs += states
                how["initial_state"] = states
            y = layer(y, **how)
        y, *states = keras.tree.flatten(y)
        if self.end == "Dense":
            y = keras.layers.Dense(2, "tanh")(y)
        elif self.end == "Norm":
            y = keras.layers.LayerNormalization()(y)
        return keras.Model(inputs, [y, *states])

    def _built(self, one, library):
        kind, units, own = one["kind"], one["units"], one["own"]

        def direction(go_backwards):
            how = {**one["common"], "go_backwards": go_backwards}
            if kind == "own":
                return layers.PeepholeLSTM(units, **own, **how)
            if kind == "stack":
                return layers.RNN([layers.LSTMCell(units), layers.GRUCell(3)], **how)
            if kind == "attentive":
                return layers.RNN(AttentiveCell(units, **own), **how)
            return getattr(library, kind.split()[0])(units, **own, **how)

        backwards = one["common"]["go_backwards"]
        if not one["merge"]:
            return direction(backwards)
        back = direction(False) if backwards else None
        return library.Bidirectional(direction(backwards), one["merge"], backward_layer=back)
