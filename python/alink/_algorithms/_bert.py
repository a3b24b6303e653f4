"""BERT [Devlin et al., 2018] on JAX: its last layers are trained for a label, and applied.

A model has its labels and, as texts, the sizes of the BERT and its vocabulary, JSON, and one for
each tensor, in the order of `Config.shapes`, then the head's weight and bias, in the form of the
weights of `alink._algorithms._networks`. It has the layers that were not trained too, so that
nothing is needed beside it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._checkpoints import EMBEDDINGS, LAYER, POOLER, Checkpoint, Config
from ._group import Group
from ._models import BadModel, Model, read_model, write_model
from ._networks import load_jax, read_weight, targets, weight_text
from ._posteriors import predictions, softmax
from ._strings import Unreadable
from ._wordpieces import WordPieces

Floats = npt.NDArray[np.float32]
Params = Mapping[str, Any]

_SEED = 2_147_483_647
#: Programs that a worker keeps compiled.
_COMPILED_MAX = 8
#: Texts are filled up to so many pieces, or a power of 2 times as many.
_PIECES_LEAST = 16
#: Of one step of a prediction, which always has as many, so that it is compiled once for each
#: length, and what is said of a row does not hang on the others. More save no time.
_STEP_PIECES = 1 << 11
#: Adam's decays and what is added to its divisor, and the norm that slopes are cut to, as BERT
#: was trained.
_DECAYS, _ADAM_EPSILON, _NORM_MAX = (0.9, 0.999), 1e-6, 1.0
#: The deviation of the weights of a head before its training.
_HEAD_SPREAD = 0.02


class _Texts:
    """Pieces of rows' texts, filled up to one length.

    Attributes
    ----------
    ids : array, shape (rows, length)
    lengths, firsts : arrays, shape (rows,)
        How many pieces a row has, and how many of them are of its first text.
    """

    def __init__(self, found: Sequence[tuple[list[int], int]], rows: int, length: int) -> None:
        self.ids = np.zeros((rows, length), np.int32)
        # A row that is filled in has a piece too: without any there is nothing to attend to.
        self.lengths = np.ones(rows, np.int32)
        self.firsts = np.ones(rows, np.int32)
        for row, (ids, first) in enumerate(found):
            self.ids[row, : len(ids)] = ids
            self.lengths[row], self.firsts[row] = len(ids), first

    def __iter__(self) -> Iterator[npt.NDArray[np.int32]]:
        return iter((self.ids, self.lengths, self.firsts))


def _length(pieces: int, most: int) -> int:
    """Give the length that a text of so many pieces is filled up to."""
    return min(most, max(_PIECES_LEAST, 1 << (pieces - 1).bit_length()))


# --- the encoder ---


class _Encoder:
    """What a BERT computes, as functions for JAX to compile."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._jax = load_jax()
        self._np = self._jax.numpy

    def _norm(self, x: Any, named: Params, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        spread = self._np.sqrt((centred**2).mean(-1, keepdims=True) + self._config.epsilon)
        return centred / spread * named[f"{name}.weight"] + named[f"{name}.bias"]

    def dense(self, x: Any, named: Params, name: str) -> Any:
        """Multiply by a weight, shape (outputs, inputs), and add the bias."""
        return x @ named[f"{name}.weight"].T + named[f"{name}.bias"]

    def drop(self, x: Any, key: Any, share: float) -> Any:
        """Set a share of values to 0 and scale the others; without a key there is no dropout."""
        if key is None or not share:
            return x
        kept = self._jax.random.bernoulli(key, 1 - share, x.shape)
        return self._np.where(kept, x / (1 - share), 0.0)

    def embed(self, named: Params, ids: Any, lengths: Any, firsts: Any) -> tuple[Any, Any]:
        """Give the embeddings of pieces, and what is added to scores of attention."""
        at = self._np.arange(ids.shape[1])
        there = at < lengths[:, None]
        second = ((at >= firsts[:, None]) & there).astype(int)
        x = (
            named["embeddings.word_embeddings.weight"][ids]
            + named["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + named["embeddings.token_type_embeddings.weight"][second]
        )
        x = self._norm(x, named, "embeddings.LayerNorm")
        return x, self._np.where(there, 0.0, -1e9)[:, None, None, :]

    def layers(self, stacked: Params, x: Any, mask: Any, keys: Any = None) -> Any:
        """Give what layers make of embeddings; each tensor is that of all layers, one by one."""
        if not len(stacked["output.dense.bias"]):
            return x

        def step(x: Any, given: Any) -> tuple[Any, None]:
            named, key = given
            return self._layer(named, key, x, mask), None

        # A step that is computed again for the slopes keeps no scores of attention.
        run = step if keys is None else self._jax.checkpoint(step)
        return self._jax.lax.scan(run, x, (stacked, keys))[0]

    def _layer(self, named: Params, key: Any, x: Any, mask: Any) -> Any:
        config = self._config
        a, b, c = (None,) * 3 if key is None else self._jax.random.split(key, 3)
        shape = (*x.shape[:2], config.heads, config.hidden // config.heads)
        query, keys, value = (
            self.dense(x, named, f"attention.self.{of}").reshape(shape)
            for of in ("query", "key", "value")
        )
        scores = self._np.einsum("bqhd,bkhd->bhqk", query, keys) / shape[-1] ** 0.5
        shares = self._jax.nn.softmax(scores + mask)
        shares = self.drop(shares, a, config.attention_dropout)
        seen = self._np.einsum("bhqk,bkhd->bqhd", shares, value).reshape(x.shape)
        seen = self.drop(self.dense(seen, named, "attention.output.dense"), b, config.dropout)
        x = self._norm(x + seen, named, "attention.output.LayerNorm")
        inner = self._jax.nn.gelu(self.dense(x, named, "intermediate.dense"), approximate=False)
        more = self.drop(self.dense(inner, named, "output.dense"), c, config.dropout)
        return self._norm(x + more, named, "output.LayerNorm")

    def head(self, trained: Params, x: Any, key: Any = None, share: float = 0.0) -> Any:
        """Give the outputs of what the layers made."""
        pooled = self._np.tanh(self.dense(x[:, 0], trained["pooler"], "pooler.dense"))
        return self.dense(self.drop(pooled, key, share), trained["head"], "head")


@functools.lru_cache(_COMPILED_MAX)
def _outputs(config: Config) -> Callable[..., Any]:
    """Give what computes outputs, of the values of a BERT and of texts."""
    encoder = _Encoder(config)

    def run(values: Any, ids: Any, lengths: Any, firsts: Any) -> Any:
        fixed, trained = values
        x, mask = encoder.embed(fixed["embeddings"], ids, lengths, firsts)
        for part in (fixed["layers"], trained["layers"]):
            x = encoder.layers(part, x, mask)
        return encoder.head(trained, x)

    return load_jax().jit(run)


@functools.lru_cache(_COMPILED_MAX)
def _slopes(config: Config, classifier: bool, dropout: float) -> Callable[..., Any]:
    """Give what computes the loss of a batch, and its slopes by all that is trained."""
    encoder, jax = _Encoder(config), load_jax()

    def total(trained: Any, x: Any, mask: Any, labels: Any, weights: Any, key: Any) -> Any:
        last, key = jax.random.split(key)
        count = len(trained["layers"]["output.dense.bias"])
        x = encoder.layers(trained["layers"], x, mask, jax.random.split(key, count))
        found = encoder.head(trained, x, last, dropout)
        if classifier:
            logarithms = jax.nn.log_softmax(found)
            losses = -jax.numpy.take_along_axis(logarithms, labels[:, None], 1)[:, 0]
        else:
            losses = (found[:, 0] - labels) ** 2
        return (losses * weights).sum() / weights.sum()

    def run(
        trained: Any, fixed: Any, texts: Any, labels: Any, weights: Any, number: Any
    ) -> tuple[Any, Any]:
        x, mask = encoder.embed(fixed["embeddings"], *texts)
        x = encoder.layers(fixed["layers"], x, mask)
        key = jax.random.fold_in(jax.random.PRNGKey(_SEED), number)
        return jax.value_and_grad(total)(trained, x, mask, labels, weights, key)

    return jax.jit(run)


class _Adam:
    """Steps of Adam [Kingma and Ba, 2014], with slopes cut to a norm; it changes the weights.

    It is numpy's: compiled, it takes longer to compile than a training of few steps.
    """

    def __init__(self, weights: list[Floats]) -> None:
        self._weights = weights
        self._means = [np.zeros_like(weight) for weight in weights]
        self._squares = [np.zeros_like(weight) for weight in weights]
        self._steps = 0

    def step(self, slopes: Sequence[Floats], rate: float) -> None:
        """Go a step down."""
        self._steps += 1
        one, two = _DECAYS
        norm = sum(float(np.vdot(slope, slope)) for slope in slopes) ** 0.5
        cut = np.float32(min(1.0, _NORM_MAX / norm) if norm else 1.0)
        size = np.float32(rate / (1 - one**self._steps))
        spread = np.float32((1 - two**self._steps) ** -0.5)
        for i, slope in enumerate(slopes):
            found = slope * cut
            self._means[i] += (1 - one) * (found - self._means[i])
            self._squares[i] += (1 - two) * (found * found - self._squares[i])
            divisor = np.sqrt(self._squares[i]) * spread + np.float32(_ADAM_EPSILON)
            self._weights[i] -= size * self._means[i] / divisor


def _values(config: Config, named: Mapping[str, Floats], trained: int) -> tuple[Any, Any]:
    """Give what is not trained and what is: layers before the last ones, and those with the head.

    Parameters
    ----------
    named : mapping
        Tensors by their names, ``head.weight`` and ``head.bias`` among them.
    trained : int
        How many layers are.
    """
    first = config.layers - trained

    def stacked(numbers: range) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name in LAYER:
            parts = [named[f"encoder.layer.{i}.{name}"] for i in numbers]
            shape = named[f"encoder.layer.0.{name}"].shape
            made[name] = np.stack(parts) if parts else np.empty((0, *shape), np.float32)
        return made

    fixed = {
        "embeddings": {name: np.array(named[name]) for name in EMBEDDINGS},
        "layers": stacked(range(first)),
    }
    of_labels = {
        "layers": stacked(range(first, config.layers)),
        "pooler": {name: np.array(named[name]) for name in POOLER},
        "head": {name: np.array(named[name]) for name in ("head.weight", "head.bias")},
    }
    return fixed, of_labels


def _named(config: Config, named: Mapping[str, Floats], trained: Any) -> Iterable[Floats]:
    """Give the tensors of a model in their order, those that were trained as they are now."""
    now: dict[str, Floats] = {}
    for name, stacked in trained["layers"].items():
        first = config.layers - len(stacked)
        now |= {f"encoder.layer.{first + i}.{name}": part for i, part in enumerate(stacked)}
    for part in ("pooler", "head"):
        now |= trained[part]
    for name in (*config.shapes(), "head.weight", "head.bias"):
        yield now[name] if name in now else named[name]


# --- training ---


def train(params: Params) -> Callable[[Group], pa.Table]:
    """Train the last layers of a BERT, and a head for the label, by Adam on batches of rows.

    The layers before them stay as they are. The rate grows over the first steps, by
    ``warmupRatio``, and falls evenly to 0 from the first step to the last.
    """

    def run(group: Group) -> pa.Table:
        label: str = params["labelCol"]
        labels, wanted = targets(group, label, params["classifier"])
        checkpoint = Checkpoint(params["files"])
        _check(params, checkpoint.config)
        named = checkpoint.tensors()
        spread = np.random.default_rng(_SEED).normal(
            0, _HEAD_SPREAD, (len(labels) or 1, checkpoint.config.hidden)
        )
        named["head.weight"] = spread.astype(np.float32)
        named["head.bias"] = np.zeros(len(spread), np.float32)
        found = _Training(params, checkpoint, named, _Rows(group, params), wanted)
        trained = found.run()
        meta = {
            "textCol": params["textCol"],
            "textPairCol": params.get("textPairCol"),
            "labelCol": label,
            "bertModelName": params["bertModelName"],
            "maxSeqLength": params["maxSeqLength"],
            "doLowerCase": checkpoint.lowercase,
            "losses": found.losses,
        }
        texts = [json.dumps(checkpoint.config._asdict()), json.dumps(checkpoint.vocabulary)]
        texts += map(weight_text, _named(checkpoint.config, named, trained))
        kind = group.schema.field(label).type if labels else None
        return write_model(Model(meta, texts, labels), kind)

    return run


def _check(params: Params, config: Config) -> None:
    most = params["maxSeqLength"]
    if most > config.positions:
        raise Unreadable(
            f"'maxSeqLength' is {most}, and the BERT {params['bertModelName']!r} has "
            f"{config.positions} positions"
        )
    if params.get("textPairCol") and config.segments < 2:
        raise Unreadable(f"the BERT {params['bertModelName']!r} knows no pairs of texts")


class _Rows:
    """The texts of a training, of which any rows are read when they are asked for."""

    def __init__(self, group: Group, params: Params) -> None:
        self._columns: list[pa.ChunkedArray] = []
        for column in filter(None, (params["textCol"], params.get("textPairCol"))):
            cells = pa.chunked_array([batch.column(column) for batch in group])
            if cells.null_count:
                raise Unreadable(f"the text {column!r} is NULL in a row of the training")
            self._columns.append(cells)

    def __len__(self) -> int:
        return len(self._columns[0])

    def take(self, rows: npt.NDArray[np.int64]) -> Iterator[Sequence[str]]:
        """Give the text of each row, or the two."""
        places = pa.array(rows)
        return zip(*(column.take(places).to_pylist() for column in self._columns), strict=True)


class _Training:
    """A training from its first step to its last one.

    Attributes
    ----------
    losses : list of float
        The mean loss of each epoch's rows, the last epoch as far as it went.
    """

    def __init__(
        self,
        params: Params,
        checkpoint: Checkpoint,
        named: Mapping[str, Floats],
        rows: _Rows,
        wanted: npt.NDArray[Any],
    ) -> None:
        config = checkpoint.config
        frozen = params["numFrozenLayers"]
        tuned = min(params["numFineTunedLayers"], config.layers)
        count = tuned if frozen is None else max(config.layers - frozen, 0)
        self._fixed, self._trained = _values(config, named, count)
        self._slopes = _slopes(config, params["classifier"], params["dropoutRate"])
        self._pieces, self._most = checkpoint.pieces, params["maxSeqLength"]
        self._rows, self._wanted = rows, wanted
        self._batch_rows = params["batchSize"]
        self._batches = -(-len(rows) // self._batch_rows)
        # Rounded first: 0.1 of 30 batches are 3, and a bit more in floats.
        self._steps = max(1, int(np.ceil(round(params["numEpochs"] * self._batches, 9))))
        self._rate, self._warm = params["learningRate"], int(self._steps * params["warmupRatio"])
        self.losses: list[float] = []

    def run(self) -> Any:
        """Give what was trained, after the last step."""
        tree = load_jax().tree_util
        fixed = tree.tree_map(load_jax().numpy.asarray, self._fixed)
        adam = _Adam(tree.tree_leaves(self._trained))
        for epoch in range(-(-self._steps // self._batches)):
            order = np.random.default_rng([_SEED, epoch]).permutation(len(self._rows))
            losses: list[float] = []
            sizes: list[int] = []
            first = epoch * self._batches
            for number in range(first, min(first + self._batches, self._steps)):
                begin = (number - first) * self._batch_rows
                # In their order, as they lie.
                part = np.sort(order[begin : begin + self._batch_rows])
                loss, slopes = self._slopes(
                    self._trained, fixed, *self._batch(part), np.int32(number)
                )
                adam.step([*map(np.asarray, tree.tree_leaves(slopes))], self._rate_at(number))
                losses.append(float(loss))
                sizes.append(len(part))
            total = float(np.average(losses, weights=sizes))
            self.losses.append(total)
            if not np.isfinite(total):
                raise Unreadable(
                    f"the loss is {total} in epoch {epoch + 1}: set a lower learningRate"
                )
        return self._trained

    def _rate_at(self, number: int) -> float:
        rate = self._rate * (1 - number / self._steps)
        return rate * (number + 1) / self._warm if number < self._warm else rate

    def _batch(self, part: npt.NDArray[np.int64]) -> tuple[Any, Any, Any]:
        """Give a batch's texts, labels and weights; rows that are filled in weigh nothing."""
        found = [
            self._pieces.encode(texts[0], texts[1] if len(texts) > 1 else None, self._most)
            for texts in self._rows.take(part)
        ]
        length = _length(max(len(ids) for ids, _ in found), self._most)
        weights = np.zeros(self._batch_rows, np.float32)
        weights[: len(part)] = 1
        labels = np.zeros(self._batch_rows, self._wanted.dtype)
        labels[: len(part)] = self._wanted[part]
        return tuple(_Texts(found, self._batch_rows, length)), labels, weights


# --- prediction ---


class Predict:
    """Applies a BERT: a label with its probabilities, or a number; NULL where a text is."""

    def __init__(self, params: Params, types: Sequence[pa.DataType]) -> None:
        self._rows_most: int = params["inferBatchSize"]
        self._types = types
        self._columns: list[str] = []
        self._labels: pa.Array = pa.nulls(0)
        self._most = 0
        self._outputs = 1
        self._pieces: Any = None
        self._run: Callable[..., Any] | None = None

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        columns = [model.get("textCol"), model.get("textPairCol")]
        self._columns = [column for column in columns if column]
        self._most = model.get("maxSeqLength")
        try:
            config = Config(**json.loads(model.data[0]))
            vocabulary = json.loads(model.data[1])
        except (IndexError, TypeError, ValueError):
            raise BadModel("the model has no BERT: it is of another kind or version") from None
        self._pieces = WordPieces(vocabulary, model.get("doLowerCase"))
        self._outputs = len(model.labels) or 1
        shapes = config.shapes()
        shapes |= {"head.weight": (self._outputs, config.hidden), "head.bias": (self._outputs,)}
        if len(model.data) != len(shapes) + 2:
            raise BadModel(f"the model has {len(model.data) - 2} tensors, its BERT {len(shapes)}")
        named: dict[str, Floats] = {}
        for (name, shape), text in zip(shapes.items(), model.data[2:], strict=True):
            named[name] = read_weight(text)
            if named[name].shape != shape:
                raise BadModel(f"{name} of the model has shape {list(named[name].shape)}")
        values = load_jax().tree_util.tree_map(load_jax().numpy.asarray, _values(config, named, 0))
        self._run = functools.partial(_outputs(config), values)
        self._labels = pa.array(model.labels, self._types[0]) if model.labels else pa.nulls(0)

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give what the BERT says of each row."""
        missing = np.zeros(batch.num_rows, bool)
        texts: list[list[Any]] = []
        for column in self._columns:
            if column not in batch.schema.names:
                raise Unreadable(
                    f"there is no column {column!r}, which has the texts of the training"
                )
            cells = batch.column(column)
            if not (pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)):
                raise Unreadable(f"column {column!r} is of type {cells.type}, not texts")
            missing |= numpy_of(cells.is_null())
            texts.append(cells.to_pylist())
        said = np.zeros((batch.num_rows, self._outputs), np.float32)
        for rows, found in self._alike(texts, missing):
            length = _length(len(found[0][0]), self._most)
            said[rows] = self._said(found, length)
        if not len(self._labels):
            missing = missing | np.isnan(said[:, 0])
            return [pa.array(said[:, 0].astype(np.float64), mask=missing)]
        chances = softmax(said.astype(np.float64))
        return predictions(chances, self._labels, missing, len(self._types) > 1)

    def _alike(
        self, texts: Sequence[Sequence[Any]], missing: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[list[int], list[tuple[list[int], int]]]]:
        """Give rows that are filled up to one length, some at a time, with their pieces."""
        waiting: dict[int, tuple[list[int], list[tuple[list[int], int]]]] = {}
        for row in np.flatnonzero(~missing).tolist():
            pair = texts[1][row] if len(texts) > 1 else None
            pieces = self._pieces.encode(texts[0][row], pair, self._most)
            length = _length(len(pieces[0]), self._most)
            rows, found = waiting.setdefault(length, ([], []))
            rows.append(row)
            found.append(pieces)
            if len(rows) == self._step_rows(length):
                yield waiting.pop(length)
        yield from waiting.values()

    def _step_rows(self, length: int) -> int:
        return min(self._rows_most, max(1, _STEP_PIECES // length))

    def _said(self, found: Sequence[tuple[list[int], int]], length: int) -> Floats:
        """Give the outputs of rows, filled up to the number of a step."""
        assert self._run is not None, "a model is loaded first"
        texts = _Texts(found, self._step_rows(length), length)
        return np.asarray(self._run(*texts))[: len(found)]
