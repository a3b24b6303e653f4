"""Networks of Keras's layers [Chollet et al., Keras 3] on JAX: training and prediction.

The texts of the layers are the model's configuration. Texts and shapes alone make a network, so
the model is these and the weights. Keras is loaded where a network is needed, by workers whose
environment has it.

A model has, beside its labels, a text of ``layers`` as JSON, and one for each of the weights, in
Keras's order: an object of ``shape`` and ``data``, floats of 32 bits, little-endian, in base64.
"""

from __future__ import annotations

import base64
import functools
import importlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import codes_of, counted, floats, labels_of
from ._group import Group
from ._layers import LAYER, OPTIMIZER, Call, nearest, parse_call, shown
from ._measures import measure
from ._models import BadModel, Model, read_model, write_model
from ._posteriors import predictions
from ._strings import Unreadable
from ._tensor_columns import Tensors, read_tensors

Floats = npt.NDArray[np.float32]
Params = Mapping[str, Any]

_SEED = 2_147_483_647
#: Networks that a worker keeps compiled: folds of a search train the same one again and again.
_COMPILED_MAX = 4
_MESSAGE_CHARS = 200
#: They take code, files or models of other libraries, which no text brings.
_REFUSED = {"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"}

_LOSSES = {
    "two": "BinaryCrossentropy",
    "more": "SparseCategoricalCrossentropy",
    "numbers": "MeanSquaredError",
}


# --- networks ---


def load_jax() -> Any:
    """Load JAX, on the processor."""
    library = importlib.import_module("jax")
    # It would look for others, and say so on stderr.
    library.config.update("jax_platforms", "cpu")
    return library


def keras() -> Any:
    """Load Keras, with JAX beneath it."""
    os.environ["KERAS_BACKEND"] = "jax"
    load_jax()
    return importlib.import_module("keras")


def _classes(*rooms: Any) -> dict[str, type]:
    """Give the classes of modules by their names."""
    return {
        name: kind
        for room in rooms
        for name, kind in vars(room).items()
        if isinstance(kind, type) and not name.startswith("_")
    }


def _make(call: Call, what: str, known: Mapping[str, type], within: Mapping[str, type]) -> Any:
    """Make the object that a call tells of, and those among its arguments.

    Parameters
    ----------
    call : Call
    what : str
        What the known classes are, for messages.
    known, within : mapping
        The classes that it may name, and those that its arguments may.
    """
    if call.name in _REFUSED:
        raise Unreadable(f"{shown(call.text)}: {call.name} runs code, which a text cannot bring")
    if call.name not in known:
        near = nearest(call.name, set(known) - _REFUSED)
        raise Unreadable(f"{shown(call.text)}: Keras has no {what} {call.name!r}{near}")

    def value(given: Any) -> Any:
        if isinstance(given, Call):
            return _make(given, "object", within, within)
        if isinstance(given, (list, tuple)):
            return type(given)(value(item) for item in given)
        return given

    kind = known[call.name]
    named = {name: value(given) for name, given in call.named.items()}
    args = [value(given) for given in call.args]
    try:
        return kind(*args, **named)
    except Exception as error:  # noqa: BLE001 Keras raises whatever it likes
        takes = _arguments(kind)
        for name in named:
            if name not in takes and (isinstance(error, TypeError) or name in str(error)):
                raise Unreadable(
                    f"{shown(call.text)}: {call.name} has no argument {name!r}"
                    f"{nearest(name, takes)}"
                ) from None
        raise Unreadable(f"{shown(call.text)}: {_said(error)}") from None


def _arguments(kind: type) -> list[str]:
    """Give the names of a class's arguments, and of those that it hands to the ones beneath."""
    found: dict[str, None] = {}
    for each in kind.__mro__:
        own = vars(each).get("__init__")
        if own is not None and each is not object:
            parameters = list(inspect.signature(own).parameters.values())[1:]
            found |= dict.fromkeys(p.name for p in parameters if p.kind not in (2, 4))
            if all(p.kind != inspect.Parameter.VAR_KEYWORD for p in parameters):
                break
    return list(found)


def _said(error: Exception) -> str:
    """Give what Keras says of a mistake, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines) or type(error).__name__
    return text if len(text) <= _MESSAGE_CHARS else f"{text[: _MESSAGE_CHARS - 1]}…"


class Network:
    """Layers, and a dense one of so many numbers at their end.

    It is a program without memory: all that it computes is of values that it is given, so that
    it serves any number of trainings and models. Values are those of the trainable variables and
    those of the others, two lists.

    Parameters
    ----------
    layers : sequence of str
    shape : sequence of int
        Of a tensor.
    outputs : int

    Attributes
    ----------
    initial : pair of lists
        The values that trainings begin with, the same ones each time.
    """

    def __init__(self, layers: Sequence[str], shape: Sequence[int], outputs: int) -> None:
        library = keras()
        jax = importlib.import_module("jax")
        library.utils.set_random_seed(_SEED)
        known = _classes(library.layers)
        within = _classes(library.constraints, library.initializers, library.regularizers) | known
        made = [(text, _make(parse_call(text, LAYER), "layer", known, within)) for text in layers]
        given = values = library.Input(tuple(shape))
        for text, layer in made:
            before = list(values.shape[1:])
            try:
                values = layer(values)
                after = list(values.shape[1:])
            except Exception as error:  # noqa: BLE001 Keras raises whatever it likes
                raise Unreadable(
                    f"{shown(text)} cannot follow tensors of shape {before}: {_said(error)}"
                ) from None
            if None in after:
                raise Unreadable(f"{shown(text)} gives tensors of no fixed shape")
        if len(values.shape) != 2:
            raise Unreadable(
                f"the layers end with tensors of shape {list(values.shape[1:])} where rows of "
                'numbers are needed: add "Flatten()" to the layers'
            )
        self.model = library.Model(given, library.layers.Dense(outputs)(values))
        self.initial = (
            [v.value for v in self.model.trainable_variables],
            [v.value for v in self.model.non_trainable_variables],
        )
        self._array: Callable[..., Any] = jax.numpy.asarray
        self._outputs = jax.jit(
            lambda values, x: self.model.stateless_call(*values, x, training=False)[0]
        )

    def outputs(self, values: Any, tensors: Floats) -> Floats:
        """Give the outputs for tensors; they are compiled for each number of tensors."""
        return np.asarray(self._outputs(values, tensors))

    def weights(self, values: Any) -> list[Floats]:
        """Give the values that make up a model, in Keras's order."""
        return [np.asarray(value) for value in self._by_variable(values)]

    def _by_variable(self, values: Any) -> Iterator[Any]:
        variables = [*self.model.trainable_variables, *self.model.non_trainable_variables]
        found = dict(zip(map(id, variables), [*values[0], *values[1]], strict=True))
        return (found[id(variable)] for variable in self.model.weights)

    def values_of(self, weights: Sequence[Floats]) -> Any:
        """Give the values of a model's weights."""
        wanted = [tuple(variable.shape) for variable in self.model.weights]
        if [weight.shape for weight in weights] != wanted:
            raise BadModel("the model's weights are not those of its layers")
        given = {
            id(variable): self._array(weight, variable.dtype)
            for variable, weight in zip(self.model.weights, weights, strict=True)
        }
        return tuple(
            [given.get(id(v), start) for v, start in zip(variables, starts, strict=True)]
            for variables, starts in zip(
                (self.model.trainable_variables, self.model.non_trainable_variables),
                self.initial,
                strict=True,
            )
        )


@functools.lru_cache(_COMPILED_MAX)
def network(layers: tuple[str, ...], shape: tuple[int, ...], outputs: int) -> Network:
    """Give a network, which a worker keeps."""
    return Network(layers, shape, outputs)


class _Descent:
    """Steps of an optimizer down the loss of batches of rows.

    Parameters
    ----------
    net : Network
    optimizer : str
        A call of one of Keras's optimizers.
    rate : float
        Its learning rate, unless the text has one.
    loss : callable
        Gives the loss of labels and outputs.
    """

    def __init__(self, net: Network, optimizer: str, rate: float, loss: Any) -> None:
        library = keras()
        jax = importlib.import_module("jax")
        call = parse_call(optimizer, OPTIMIZER)
        if not call.args and "learning_rate" not in call.named:
            call = Call(call.text, call.name, (), {**call.named, "learning_rate": rate})
        within = _classes(library.optimizers.schedules)
        made = _make(call, "optimizer", _classes(library.optimizers), within)
        made.build(net.model.trainable_variables)

        def total(trainable: Any, others: Any, x: Any, y: Any) -> Any:
            outputs, others, penalties = net.model.stateless_call(
                trainable, others, x, training=True, return_losses=True
            )
            return loss(y, outputs) + sum(penalties), others

        slope = jax.value_and_grad(total, has_aux=True)

        def step(state: Any, x: Any, y: Any) -> Any:
            (trainable, others), held = state
            (value, others), slopes = slope(trainable, others, x, y)
            trainable, held = made.stateless_apply(held, slopes, trainable)
            return ((trainable, others), held), value

        copied = functools.partial(jax.tree_util.tree_map, jax.numpy.array)
        #: Gives the state that a training begins with: values, and what the optimizer holds.
        self.begin: Callable[[], Any] = lambda: copied(
            (net.initial, [v.value for v in made.variables])
        )
        #: Gives the state after a batch, and the batch's loss, of the state before.
        self.step: Callable[..., Any] = jax.jit(step, donate_argnums=0)


@functools.lru_cache(_COMPILED_MAX)
def _descent(net: Network, optimizer: str, rate: float, kind: str) -> _Descent:
    loss = getattr(keras().losses, _LOSSES[kind])
    given = {} if kind == "numbers" else {"from_logits": True}
    return _Descent(net, optimizer, rate, loss(**given))


# --- training ---


def train(params: Params) -> Callable[[Group], pa.Table]:
    """Train a network, by Adam or another of Keras's optimizers, on batches of rows.

    Of two labels the network has one output, the log odds of the larger one; of more, one for
    each, whose exponentials are as their chances; a regression's is the prediction.
    """
    column, label = params["tensorCol"], params["labelCol"]
    layers = tuple(params["layers"])

    def run(group: Group) -> pa.Table:
        labels, wanted = targets(group, label, params["classifier"])
        tensors = Tensors(group, column)
        net = network(layers, tensors.shape, len(labels) if len(labels) > 2 else 1)
        found = _Training(net, tensors, wanted, params, len(labels))
        values = found.run()
        meta = {
            "tensorCol": column,
            "labelCol": label,
            "shape": list(tensors.shape),
            "outputs": net.model.output_shape[-1],
            "optimizer": params["optimizer"],
            "losses": found.losses,
            "kerasVersion": keras().__version__,
        }
        texts = [json.dumps(layers), *map(weight_text, net.weights(values))]
        kind = group.schema.field(label).type if labels else None
        return write_model(Model(meta, texts, labels), kind)

    return run


def targets(group: Group, label: str, classifier: bool) -> tuple[list[Any], npt.NDArray[Any]]:
    """Give what a training aims at.

    Returns
    -------
    labels : list
        Those of a classifier, in order.
    wanted : array, shape (rows,)
        The labels of all rows: places among the labels, or a regression's numbers.
    """
    if not group.rows_of_all:
        raise Unreadable("there are no rows to train with")
    for batch in group:
        if batch.column(label).null_count:
            raise Unreadable(f"the label {label!r} is NULL in a row of the training")
    labels: list[Any] = []
    if classifier:
        labels = labels_of(group, label)[::-1]
        if len(labels) == 1:
            raise Unreadable(
                f"the label {label!r} has {counted(labels)} where 2 or more are needed: "
                f"{labels[0]!r}"
            )
    parts: list[npt.NDArray[Any]] = []
    for batch in group:
        if labels:
            parts.append(codes_of(batch.column(label), labels).astype(np.int32))
            continue
        values = floats(batch.column(label), label)
        if not np.isfinite(values).all():
            raise Unreadable(f"the label {label!r} has NaN or infinite values")
        parts.append(values.astype(np.float32))
    return labels, np.concatenate(parts)


class _Training:
    """A training from its first batch to its last one.

    Attributes
    ----------
    losses : list of float
        The mean loss of each epoch's batches.
    """

    def __init__(
        self,
        net: Network,
        tensors: Tensors,
        labels: npt.NDArray[Any],
        params: Params,
        classes: int,
    ) -> None:
        kind = "numbers" if not classes else "two" if classes == 2 else "more"
        self._descent = _descent(net, params["optimizer"], params["learningRate"], kind)
        self._net, self._tensors, self._labels = net, tensors, labels
        self._kind = kind
        self._batch_rows = params["batchSize"]
        self._epochs = params["numEpochs"]
        self._every = params["saveCheckpointsEpochs"]
        self._measure = measure(params["bestMetric"], kind) if params["saveBestOnly"] else None
        order = np.random.default_rng(_SEED).permutation(len(labels))
        held = int(len(labels) * params["validationSplit"])
        self._rows = np.sort(order[held:])
        # Without rows for it the measure is that of the training's own.
        self._measured = np.sort(order[:held]) if held else self._rows
        self.losses: list[float] = []

    def run(self) -> Any:
        """Give the values of the last batch, or of the best of those that were measured."""
        state = self._descent.begin()
        best, best_at = None, -np.inf
        batches = -(-len(self._rows) // self._batch_rows)
        every = max(1, round(batches * self._every))
        done = 0
        for epoch in range(self._epochs):
            order = np.random.default_rng([_SEED, epoch]).permutation(self._rows)
            losses: list[Any] = []
            sizes: list[int] = []
            for begin in range(0, len(order), self._batch_rows):
                # In their order, as they lie.
                part = np.sort(order[begin : begin + self._batch_rows])
                x = self._tensors.take(part)
                state, loss = self._descent.step(state, x, self._targets(part))
                losses.append(loss)
                sizes.append(len(part))
                done += 1
                if self._measure is not None and (
                    done % every == 0 or done == batches * self._epochs
                ):
                    reached = self._measure(*self._said(state[0]))
                    if reached > best_at:
                        best_at = reached
                        best = tuple([np.array(v) for v in values] for values in state[0])
            total = float(np.average([float(loss) for loss in losses], weights=sizes))
            self.losses.append(total)
            if not np.isfinite(total):
                raise Unreadable(
                    f"the loss is {total} in epoch {epoch + 1}: set a lower learningRate, scale "
                    "the tensors, or give an Embedding more values"
                )
        return state[0] if best is None else best

    def _targets(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        labels = self._labels[rows]
        return labels if self._kind == "more" else labels.astype(np.float32)[:, None]

    def _said(self, values: Any) -> tuple[npt.NDArray[Any], Floats]:
        """Give the labels and outputs of the rows that are measured."""
        rows = self._measured
        parts = [
            _padded(self._net, values, self._tensors.take(rows[b : b + self._batch_rows]),
                    min(self._batch_rows, len(rows)))
            for b in range(0, len(rows), self._batch_rows)
        ]  # fmt: skip
        return self._targets(rows), np.concatenate(parts)


def _padded(net: Network, values: Any, tensors: Floats, count: int) -> Floats:
    """Give the outputs for up to so many tensors, for which the network is compiled."""
    lacking = count - len(tensors)
    if not lacking:
        return net.outputs(values, tensors)
    filled = np.concatenate([tensors, np.zeros((lacking, *tensors.shape[1:]), np.float32)])
    return net.outputs(values, filled)[: len(tensors)]


def _chances(outputs: Floats) -> npt.NDArray[np.float64]:
    """Give the chances of labels: of the second where there is one output, else of all."""
    logits = outputs.astype(np.float64)
    if logits.shape[1] == 1:
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-logits))
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def weight_text(weight: Floats) -> str:
    """Write a weight."""
    data = base64.b64encode(np.ascontiguousarray(weight, "<f4").tobytes()).decode()
    return json.dumps({"shape": list(weight.shape), "data": data})


def read_weight(text: str) -> Floats:
    """Read what `weight_text` writes."""
    try:
        said = json.loads(text)
        return np.frombuffer(base64.b64decode(said["data"]), "<f4").reshape(said["shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadModel(f"a weight of the model cannot be read: {error}") from None


# --- prediction ---


class Predict:
    """Applies a network: a label with its probabilities, or a number; NULL where the tensor is."""

    def __init__(self, params: Params, types: Sequence[pa.DataType]) -> None:
        self._rows: int = params["inferBatchSize"]
        self._types = types
        self._column = ""
        self._shape: tuple[int, ...] = ()
        self._labels: pa.Array = pa.nulls(0)
        self._net: Any = None
        self._values: Any = None

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        self._column = model.get("tensorCol")
        self._shape = tuple(model.get("shape"))
        if not model.data:
            raise BadModel("the model has no layers")
        layers = tuple(json.loads(model.data[0]))
        self._net = network(layers, self._shape, model.get("outputs"))
        self._values = self._net.values_of([read_weight(text) for text in model.data[1:]])
        self._labels = pa.array(model.labels, self._types[0]) if model.labels else pa.nulls(0)

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give what the network says of each row."""
        if self._column not in batch.schema.names:
            raise Unreadable(
                f"there is no column {self._column!r}, which has the tensors of the training"
            )
        tensors, missing = read_tensors(batch, self._column, self._shape)
        parts = [
            _padded(self._net, self._values, tensors[b : b + self._rows], self._rows)
            for b in range(0, len(tensors), self._rows)
        ]
        said = np.concatenate([np.empty((0, self._net.model.output_shape[-1]), np.float32), *parts])
        if not len(self._labels):
            missing = missing | np.isnan(said[:, 0])
            return [pa.array(said[:, 0].astype(np.float64), mask=missing)]
        chances = _chances(said)
        if chances.shape[1] == 1:
            chances = np.column_stack([1 - chances, chances])
        return predictions(chances, self._labels, missing, len(self._types) > 1)
