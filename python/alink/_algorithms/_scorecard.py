"""Scorecards: linear models of binned columns, whose weights are points for each bin.

With ``encode`` ASSEMBLED_VECTOR each bin of a column has a weight, with WOE a column has one, of
its bins' evidence, with NULL of its numbers. A scale with ``pdo`` points to double the odds and
``scaledValue`` points at ``odds`` turns a score s into (s - B) / A, where A = ln 2 / pdo and
B = ln odds - A scaledValue [N. Siddiqi, Credit Risk Scorecards, 2006].

A bin of each column could be left out without loss. Where neither a penalty nor a constraint
settles them, the weights of a column's bins that have rows add up to 0.

A model keeps its parameters and as its texts an object of ``intercept`` and ``weights``, a list
for each column that is in the model, and then the bins of the columns as the binning has them.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._binning import Feature, evidence_of, read_feature, rows_of, weigh
from ._blocks import Blocks, floats
from ._brought import brought
from ._chi_square import chi_square_tail
from ._details import details
from ._encoders import column_of
from ._fields import Array, Codes, Rows
from ._group import Group
from ._linear import log_loss
from ._models import BadModel, Model, meta_of, read_model, write_model
from ._optimize import minimum, minimum_within
from ._strings import Unreadable, text_of

Params = Mapping[str, Any]

_KEPT = ("encode", "linearModelType", "labelCol", "positiveLabelValueString", "scaleInfo",
         "scaledValue", "odds", "pdo")  # fmt: skip
_VECTOR, _WOE, _PLAIN = "ASSEMBLED_VECTOR", "WOE", "NULL"
_FORM = (
    '{"featureConstraint": [{"name": "a", "<": [[0, 1, 2]], "UP": [[3, 0.5]]}]} is one, of bins '
    "by their numbers"
)


# --- columns ---


class Coding:
    """Gives the bins of columns, or their evidence, or their numbers."""

    def __init__(
        self, encode: str, names: Sequence[str], texts: Sequence[str], default: float | None
    ) -> None:
        self.encode = encode
        self.names = names
        self.features: list[Feature] = []
        self._evidence: list[Array] = []
        if encode != _PLAIN:
            rows = rows_of(texts, names)
            self.features = [read_feature(row) for row in rows]
            pairs = zip(self.features, rows, strict=True)
            self._evidence = [evidence_of(feature, row, default) for feature, row in pairs]

    @property
    def sizes(self) -> list[int]:
        """How many weights each column has."""
        if self.encode == _VECTOR:
            return [feature.size for feature in self.features]
        return [1] * len(self.names)

    def bins(self, batch: pa.RecordBatch, number: int) -> Codes:
        """Give the bins of a column's values."""
        return self.features[number].place(column_of(batch, self.names[number]))

    def numbers(self, batch: pa.RecordBatch, number: int) -> Array:
        """Give a column's numbers, or the evidence of their bins."""
        name = self.names[number]
        if self.encode == _PLAIN:
            return floats(column_of(batch, name), name)
        return weigh(name, self.bins(batch, number), self._evidence[number])


# --- constraints ---


@dataclass(frozen=True)
class Constraint:
    """A sum of weights that is a value, or not less than it."""

    terms: Sequence[tuple[str, int, float]]
    value: float
    equal: bool


def read_constraints(text: str) -> list[Constraint]:
    """Read constraints of bins: of one column, and of bins of several.

    Raises
    ------
    Unreadable
        If they have not the form.
    """
    try:
        given = json.loads(text)
        found: list[Constraint] = []
        for item in given.get("featureConstraint") or []:
            found += _constraints(item, functools.partial(_of_column, item["name"]))
        found += _constraints(given.get("constraintBetweenFeatures") or {}, _of_columns)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise Unreadable(f"constraints cannot be read: {error!r:.60}; {_FORM}") from None
    return found


#: A row of a constraint as (column, bin) pairs, and the numbers behind them.
_Pairs = tuple[list[tuple[str, int]], list[float]]


def _of_column(name: str, row: Sequence[Any], bins: int = 0) -> _Pairs:
    count = bins or len(row)
    return [(name, int(bin_)) for bin_ in row[:count]], [float(x) for x in row[count:]]


def _of_columns(row: Sequence[Any], bins: int = 0) -> _Pairs:
    count = 2 * bins or len(row)
    names, numbers = row[:count:2], row[1:count:2]
    pairs = [(str(name), int(bin_)) for name, bin_ in zip(names, numbers, strict=True)]
    return pairs, [float(x) for x in row[count:]]


def _constraints(item: Mapping[str, Any], read: Callable[..., _Pairs]) -> list[Constraint]:
    found: list[Constraint] = []
    for key, sign in (("UP", -1.0), ("LO", 1.0), ("=", 1.0)):
        for row in item.get(key) or []:
            ((name, bin_),), (value,) = read(row, bins=1)
            found.append(Constraint([(name, bin_, sign)], sign * value, key == "="))
    for row in item.get("%") or []:
        (first, second), (ratio,) = read(row, bins=2)
        found.append(Constraint([(*first, 1.0), (*second, -ratio)], 0.0, True))
    for key, sign in (("<", -1.0), (">", 1.0)):
        for row in item.get(key) or []:
            pairs, _ = read(row)
            for a, b in itertools.pairwise(pairs):
                found.append(Constraint([(*a, sign), (*b, -sign)], 0.0, False))
    return found


# --- training ---


@dataclass
class Fit:
    """Weights, the intercept first, and twice the loss."""

    weights: Array
    deviance: float


class Trainer:
    """Fits linear models of some of the columns."""

    def __init__(self, group: Group, params: Params) -> None:
        self._params = params
        self._group = group
        name, encode = params["labelCol"], params["encode"]
        self.names: list[str] = params["selectedCols"]
        features = self.names if encode == _PLAIN else []
        blocks = Blocks(group, {**params, "featureCols": features})
        blocks.require_rows()
        self.texts = self._told("binsCol")
        self.coding = Coding(encode, self.names, self.texts, params["defaultWoe"])
        labels = blocks.pair()
        positive = params["positiveLabelValueString"]
        if positive not in map(text_of, labels):
            raise Unreadable(
                f"no row has the label {positive!r}: positiveLabelValueString is one of the "
                f"values of {name!r}, {', '.join(map(text_of, labels))}"
            )
        self.labels = sorted(labels, key=lambda label: text_of(label) != positive)
        self._signs = 1.0 - 2.0 * blocks.codes(self.labels)
        self._weights = np.concatenate([np.empty(0), *(block.weight for block in blocks)])
        self._total = blocks.total
        count = range(len(self.names))
        self._bins: list[Codes] = []
        self._numbers = np.empty((len(blocks), 0))
        if encode == _VECTOR:
            self._bins = [self._column(i, self.coding.bins, np.int64) for i in count]
        else:
            columns = [self._column(i, self.coding.numbers, np.float64) for i in count]
            self._numbers = np.stack(columns, axis=1)
        moments = (self._numbers.sum(axis=0), (self._numbers**2).sum(axis=0), len(blocks))
        sums, squares, rows = group.sum(*moments)
        self._centre = sums / max(float(rows), 1.0)
        spread = np.sqrt(np.maximum(squares / max(float(rows), 1.0) - self._centre**2, 0.0))
        self._scale = np.where(spread > 0, spread, 1.0)
        self._numbers = (self._numbers - self._centre) / self._scale
        sizes = self.coding.sizes if encode == _VECTOR else []
        counts = [
            np.bincount(bins, minlength=size) for bins, size in zip(self._bins, sizes, strict=True)
        ]
        #: How many rows each bin has.
        self._counts = list(group.sum(*counts)) if counts else []
        self._constraints = self._told_constraints()

    def _told(self, parameter: str) -> list[str]:
        """Give the texts that have come along with the rows."""
        column = self._params.get(parameter)
        text = None if column is None else brought(self._group, column)
        return [] if text is None else json.loads(text)

    def _told_constraints(self) -> list[Constraint]:
        given = [c for text in self._told("constraintCol") for c in read_constraints(text)]
        if not given:
            return []
        if self.coding.encode != _VECTOR:
            if self._group.rank == 0:
                print(
                    f"warning: constraints are of bins: with encode {self.coding.encode} they "
                    "change nothing",
                    file=sys.stderr,
                    flush=True,
                )
            return []
        known = {name.lower(): i for i, name in enumerate(self.names)}
        found: list[Constraint] = []
        for constraint in given:
            terms: list[tuple[str, int, float]] = []
            for name, bin_, factor in constraint.terms:
                at = known.get(name.lower())
                if at is None:
                    raise Unreadable(f"a constraint names {name!r}, which is none of selectedCols")
                normal, size = self.coding.features[at].normal, self.coding.sizes[at]
                place = normal - 1 - bin_ if bin_ < 0 else bin_
                if not 0 <= place < (size if bin_ < 0 else normal):
                    raise Unreadable(f"column {name!r} has no bin {bin_}: it has 0 to {normal - 1}")
                terms.append((self.names[at], place, factor))
            found.append(Constraint(terms, constraint.value, constraint.equal))
        return found

    def _column(self, number: int, read: Callable[..., npt.NDArray[Any]], kind: Any) -> Any:
        parts = [read(batch, number) for batch in self._group]
        return np.concatenate([np.empty(0, kind), *parts])

    def degrees(self, column: int) -> int:
        """Give how many weights of a column are free."""
        return max(int((self._counts[column] > 0).sum()) - 1, 0) if self._counts else 1

    def fit(self, chosen: Sequence[int]) -> Fit:
        """Fit a model of some of the columns."""
        params, group, total = self._params, self._group, self._total
        if self._bins:
            fields, sizes = [self._bins[i] for i in chosen], [self.coding.sizes[i] for i in chosen]
            rows = Rows(self._numbers, fields, sizes, self._signs)
        else:
            rows = Rows(self._numbers[:, list(chosen)], [], [], self._signs)
        begins, size = rows.begins, rows.begins[-1]
        l2, losses_of = params["l2"] or 0.0, _LOSSES[params["linearModelType"]]
        loss = 0.0

        def objective(at: Array) -> tuple[float, Array]:
            nonlocal loss
            losses, slopes = losses_of(rows.margins(at), self._signs)
            mine = float(self._weights @ losses), rows.gradient(self._weights * slopes)
            value, gradient = (part / total for part in group.sum(*mine))
            loss = float(value)
            held = np.concatenate(([0.0], at[1:]))
            return loss + l2 * float(held @ held), gradient + 2 * l2 * held

        l1 = None
        if params["l1"]:
            l1 = np.concatenate(([0.0], np.full(size - 1, params["l1"])))
        held = {self.names[i] for i in chosen}
        constraints = [c for c in self._constraints if all(t[0] in held for t in c.terms)]
        start = np.zeros(size)
        if constraints:
            at_of = {self.names[i]: begins[k] for k, i in enumerate(chosen)}
            equal, least = self._matrices(constraints, at_of, size)
            found = minimum_within(objective, start, params, equal, least, l1)
        else:
            found = minimum(objective, start, params, l1)
        objective(found.at)  # sets the loss there
        weights = found.at.copy()
        if self._bins:
            settled = {name for c in constraints for name, _, _ in c.terms}
            for k, column in enumerate(chosen):
                if l1 is None and not l2 and self.names[column] not in settled:
                    own, some = weights[begins[k] : begins[k + 1]], self._counts[column] > 0
                    middle = float(own[some].mean())
                    own[some] -= middle
                    weights[0] += middle
        else:
            weights[1:] /= self._scale[list(chosen)]
            weights[0] -= float(weights[1:] @ self._centre[list(chosen)])
        return Fit(weights, _DEVIANCES[params["linearModelType"]](loss, total))

    def _matrices(
        self, constraints: Sequence[Constraint], begins: Mapping[str, int], size: int
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Write constraints as matrices, and that the weights of each column's bins add up to 0.

        Bins without rows, which no constraint names, are no part of the sum.
        """
        found: dict[bool, list[tuple[Array, float]]] = {True: [], False: []}
        named: dict[str, set[int]] = {}
        for constraint in constraints:
            row = np.zeros(size)
            for name, bin_, factor in constraint.terms:
                row[begins[name] + bin_] += factor
                named.setdefault(name, set()).add(bin_)
            found[constraint.equal].append((row, constraint.value))
        for name, bins in named.items():
            row = np.zeros(size)
            some = np.flatnonzero(self._counts[self.names.index(name)] > 0).tolist()
            row[[begins[name] + bin_ for bin_ in {*bins, *some}]] = 1.0
            found[True].append((row, 0.0))
        equal, least = (
            (np.array([r for r, _ in rows]).reshape(-1, size), np.array([v for _, v in rows]))
            for rows in (found[True], found[False])
        )
        return equal, least


def _logistic(margins: Array, signs: Array) -> tuple[Array, Array]:
    losses, slopes = log_loss(margins * signs)
    return losses, slopes * signs


def _squares(margins: Array, signs: Array) -> tuple[Array, Array]:
    error = margins - (signs + 1) / 2
    return 0.5 * error**2, error


_LOSSES = {"LR": _logistic, "LinearReg": _squares}
_DEVIANCES: Mapping[str, Callable[[float, float], float]] = {
    "LR": lambda loss, total: 2 * total * loss,
    "LinearReg": lambda loss, total: total * math.log(max(loss, 1e-300)),
}


def choose(trainer: Trainer, forced: Sequence[int], entry: float, stay: float) -> list[int]:
    """Choose columns step by step, by likelihood-ratio tests; those that are forced stay.

    The column comes in whose test has the smallest p-value, at most `entry`; then each goes, the
    one with the largest first, whose p-value is above `stay`.
    """
    chosen = list(forced)
    now = trainer.fit(chosen).deviance

    def chance(larger: float, smaller: float, column: int) -> float:
        free = trainer.degrees(column)
        return chi_square_tail(max(larger - smaller, 0.0), free) if free else 1.0

    for _ in range(2 * len(trainer.names)):
        others = [i for i in range(len(trainer.names)) if i not in chosen]
        tried = {i: trainer.fit([*chosen, i]).deviance for i in others}
        ranked = sorted(others, key=lambda i: (chance(now, tried[i], i), tried[i]))
        if not ranked or not chance(now, tried[ranked[0]], ranked[0]) <= entry:
            break
        came = ranked[0]
        chosen.append(came)
        now = tried[came]
        while removable := [i for i in chosen if i not in forced]:
            without = {i: trainer.fit([k for k in chosen if k != i]).deviance for i in removable}
            worst = max(removable, key=lambda i: chance(without[i], now, i))
            if not chance(without[worst], now, worst) > stay:
                break
            chosen.remove(worst)
            now = without[worst]
            if worst == came:
                return sorted(chosen)
    return sorted(chosen)


def train(params: Params) -> Any:
    """Make the training."""

    def run(group: Group) -> pa.Table:
        trainer = Trainer(group, params)
        names = trainer.names
        chosen = list(range(len(names)))
        if params["withSelector"]:
            forced = [names.index(name) for name in params["forceSelectedCols"] or []]
            chosen = choose(trainer, forced, params["alphaEntry"], params["alphaStay"])
        weights = trainer.fit(chosen).weights.tolist()
        content: dict[str, Any] = {"intercept": weights[0], "weights": {}}
        at = 1
        for i in chosen:
            size = trainer.coding.sizes[i]
            content["weights"][names[i]] = weights[at : at + size]
            at += size
        default = params["defaultWoe"]
        default = None if default is None or math.isnan(default) else default
        meta = {**meta_of(params, _KEPT), "selectedCols": names, "defaultWoe": default}
        label = group.schema.field(params["labelCol"]).type
        texts = [json.dumps(content, ensure_ascii=False), *trainer.texts]
        columns = [(name, pa.float64()) for name in names]
        return write_model(Model(meta, texts, trainer.labels), label, columns)

    return run


# --- applying ---


def scale_of(meta: Mapping[str, Any]) -> tuple[float, float]:
    """Give A and B of the scale of a model's scores."""
    if not meta.get("scaleInfo"):
        return 1.0, 0.0
    a = math.log(2) / meta["pdo"]
    return a, math.log(meta["odds"]) - a * meta["scaledValue"]


class Predict:
    """Gives scores: of the row and, if asked for, the chances of the labels and columns' parts."""

    def __init__(self, params: Params, types: Sequence[pa.DataType]) -> None:
        self._types = types
        self._detailed = params.get("predictionDetailCol") is not None
        self._each = bool(params.get("calculateScorePerFeature"))
        self._model = Model()
        self._coding = Coding(_PLAIN, [], [], None)
        self._content: dict[str, Any] = {"intercept": 0.0, "weights": {}}

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        self._model = model = read_model(table)
        if not model.data:
            raise BadModel("the model is none of a scorecard")
        self._content = json.loads(model.data[0])
        names = list(self._content["weights"])
        default = model.get("defaultWoe")
        self._coding = Coding(model.get("encode"), names, model.data[1:], default)

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the columns; NULL where a number is."""
        model = self._model
        a, b = scale_of(model.meta)
        total = np.full(batch.num_rows, self._content["intercept"])
        parts: dict[str, Array] = {}
        for number, (name, weights) in enumerate(self._content["weights"].items()):
            if self._coding.encode == _VECTOR:
                part = np.array(weights, np.float64)[self._coding.bins(batch, number)]
            else:
                part = weights[0] * self._coding.numbers(batch, number)
            parts[name] = part
            total += part
        missing = np.isnan(total)
        columns: list[pa.Array] = []
        if self._detailed:
            with np.errstate(over="ignore"):
                chance = 1 / (1 + np.exp(-total))
            columns.append(details(model.labels, [chance, 1 - chance], missing, quoted=True))
        columns.append(pa.array((total - b) / a, pa.float64(), from_pandas=True))
        if self._each:
            for name in model.get("selectedCols"):
                part = parts.get(name, np.full(batch.num_rows, np.nan)) / a
                columns.append(pa.array(part, pa.float64(), from_pandas=True))
        return columns
