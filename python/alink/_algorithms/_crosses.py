"""AutoCross: crossings of categories, chosen by how well a logistic regression ranks with them.

Each step of the search adds the crossing, of two of the features and crossings that there are,
with which the area under the ROC curve of rows that were held out is largest: a beam of one
[Luo et al., AutoCross: automatic feature crossing for tabular data in real-world applications,
KDD 2019]. With ``fixCoefs`` the coefficients of what was there before stay as they are and those
of a candidate are found by themselves, that paper's field-wise regression; else all are found
anew. Coefficients, those of numbers for a standard deviation, have normal priors around 0 with
variance 1, so that a category of few rows tells little.

A vector has first the numbers, then a place for each category of each column, then one for each
combination of the categories of a crossing, in which those of the first column change fastest.
The last categories of a column are NULL, or whatever the model does not know, and, of a model
``withElse``, apart from NULL what is rare or not known.

A model keeps ``numericalCols``, ``categoricalCols``, ``withElse``, ``crosses``, each a list of
places among the categorical columns, and their ``scores``; its texts are lists, as JSON, of the
values of each categorical column, in the order of their places.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of, string
from ._blocks import Array, Blocks, floats
from ._encoders import column_of
from ._fields import Codes, Rows
from ._group import Group
from ._linear import log_loss
from ._models import Model, read_model, write_model
from ._optimize import minimize
from ._random import uniform
from ._strings import Unreadable
from ._tokens import UNSEEN, Tokens, count_texts
from ._vectors import Vectors

Params = Mapping[str, Any]
Types = Sequence[pa.DataType]
#: A crossing: places among the categorical columns, ascending.
Cross = tuple[int, ...]

_SIZE_MAX = 2**31 - 1  # of a vector: its indices have 32 bits
_STEPS_MAX = 60  # of a search for the coefficients of one field
_ITERATIONS_MAX = 100
#: Combinations are numbered as they are where there are at most so many for each row.
_LOOSE = 4
_PLACES_MAX = 10_000_000  # that are listed
_NULL, _RARE = "null", "lowFrequencyValue"


# --- what is in a vector ---


@dataclass
class Layout:
    """The categories of columns, and which of them are crossed."""

    numbers: list[str]
    columns: list[str]
    values: list[list[str]]
    with_else: bool
    crosses: list[Cross]

    @property
    def sizes(self) -> list[int]:
        """How many categories each column has."""
        return [len(values) + 1 + self.with_else for values in self.values]

    def widths(self, crosses: Iterable[Cross]) -> list[int]:
        """Give how many combinations of categories crossings have."""
        sizes = self.sizes
        return [math.prod(sizes[i] for i in cross) for cross in crosses]

    def check(self) -> None:
        """Refuse what is larger than a vector."""
        size = len(self.numbers) + sum(self.sizes) + sum(self.widths(self.crosses))
        if size > _SIZE_MAX:
            raise Unreadable(
                f"the categories and their crossings are {size}, a vector has at most {_SIZE_MAX} "
                "places: with discreteThresholds, rare values share a category"
            )

    def codes(self, batches: Iterable[pa.RecordBatch]) -> list[Codes]:
        """Give the categories of the rows, column by column."""
        tokens = [Tokens(values, range(len(values))) for values in self.values]
        found: list[list[Codes]] = [[] for _ in self.columns]
        for batch in batches:
            for parts, name, known in zip(found, self.columns, tokens, strict=True):
                column = column_of(batch, name)
                code = known.find(column)
                unseen = code == UNSEEN
                if self.with_else:
                    missing = numpy_of(column.is_null())
                    other = np.where(missing, len(known), len(known) + 1)
                else:
                    other = np.full(len(code), len(known))
                parts.append(np.where(unseen, other, code))
        return [np.concatenate([np.empty(0, np.int64), *parts]) for parts in found]

    def crossed(self, codes: Sequence[Codes], cross: Cross) -> Codes:
        """Give the combinations of the rows' categories."""
        result, step = np.zeros(len(codes[0]), np.int64), 1
        for column in cross:
            result += codes[column] * step
            step *= self.sizes[column]
        return result

    def write(self, scores: Sequence[float]) -> pa.Table:
        """Write the model."""
        meta = {
            "numericalCols": self.numbers,
            "categoricalCols": self.columns,
            "withElse": self.with_else,
            "crosses": [list(cross) for cross in self.crosses],
            "scores": list(scores),
        }
        texts = [json.dumps(values, ensure_ascii=False) for values in self.values]
        return write_model(Model(meta, texts))

    @classmethod
    def read(cls, table: pa.Table) -> Layout:
        """Read a model."""
        model = read_model(table)
        return cls(
            model.get("numericalCols"),
            model.get("categoricalCols"),
            [json.loads(text) for text in model.data],
            model.get("withElse"),
            [tuple(cross) for cross in model.get("crosses")],
        )


# --- training ---


def regress(rows: Rows, start: Array) -> Array:
    """Find the coefficients of a logistic regression, from those of `start`.

    They are sought as multiples of what their scale is by the number of rows that have them.
    """
    count = len(rows.signs)
    square = rows.gradient(np.ones(count))
    square[1 : rows.begins[0]] = (rows.numbers**2).sum(axis=0)
    prior = np.ones(len(square))
    prior[0] = 0.0
    scale = np.sqrt(square / 4 + 1)

    def objective(at: Array) -> tuple[float, Array]:
        coefficients = at / scale
        losses, slopes = log_loss(rows.margins(coefficients) * rows.signs)
        held = prior * coefficients
        value = float(losses.sum()) + 0.5 * float(held @ coefficients)
        return value / count, (rows.gradient(slopes * rows.signs) + held) / scale / count

    found = minimize(objective, start * scale, iterations_max=_ITERATIONS_MAX)
    return found.at / scale


def regress_field(margins: Array, signs: Array, codes: Codes, size: int) -> Array:
    """Find the coefficients of one field, beside those that have made the margins.

    Each row has one of them, so that each is found by itself: by Newton's steps, and by halving
    where such a step leads out of what is known of it.
    """
    found = np.zeros(size)
    high = np.bincount(codes, minlength=size).astype(np.float64)
    low = -high
    for _ in range(_STEPS_MAX):
        _, slopes = log_loss((margins + found.take(codes)) * signs)  # slopes are -p(other label)
        slope = found + np.bincount(codes, slopes * signs, size)
        curve = 1.0 - np.bincount(codes, slopes * (1.0 + slopes), size)
        high = np.where(slope > 0, found, high)
        low = np.where(slope < 0, found, low)
        then = found - slope / curve
        then = np.where((then < low) | (then > high), (low + high) / 2, then)
        moved = float(np.abs(then - found).max(initial=0.0))
        found = then
        if moved <= 1e-10:
            break
    return found


def area_under_curve(scores: Array, positive: npt.NDArray[np.bool_]) -> float:
    """Give the area under the ROC curve: rows of the same score count half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    count = int(positive.sum())
    above = float(ranks[place][positive].sum()) - count * (count + 1) / 2
    return above / (count * (len(scores) - count))


def split(signs: Array, fraction: float, draw: int) -> tuple[Codes, Codes]:
    """Divide rows into those to train with and those held out, in each label about by a share."""
    drawn = uniform(0, draw, np.arange(len(signs)))
    known: list[Codes] = []
    held: list[Codes] = []
    for sign in (1.0, -1.0):
        own = np.flatnonzero(signs == sign)
        own = own[np.argsort(drawn[own], kind="stable")]
        cut = min(max(round(fraction * len(own)), 1), len(own) - 1)
        known.append(own[:cut])
        held.append(own[cut:])
    return np.sort(np.concatenate(known)), np.sort(np.concatenate(held))


class Search:
    """Evaluates crossings on the rows of a training.

    Workers share the candidates; each of them has all rows.
    """

    def __init__(self, group: Group, params: Params) -> None:
        self._group = group
        self._fixed: bool = params["fixCoefs"]
        self._fraction: float = params["fraction"]
        self._draws: int = params["kCross"]
        numbers, columns = params["numericalCols"], params["categoricalCols"]
        values: list[list[str]] = []
        for name, least in zip(columns, params["thresholds"], strict=True):
            counts = count_texts(group, name)
            values.append(sorted(text for text, count in counts.items() if count >= least))
        self.layout = Layout(numbers, columns, values, any(params["thresholds"]), [])
        self.layout.check()
        alone = group.alone()
        self._rows = self._read(Blocks(alone, {**params, "featureCols": numbers}), alone)
        #: Of each division of the rows: the coefficients of what was chosen.
        self._found = [np.zeros(1 + len(numbers))] * self._draws
        self._known = [0] * self._draws  # how many fields they are of
        self.scores: list[float] = []

    def _read(self, blocks: Blocks, group: Group) -> Rows:
        labels = blocks.pair()
        signs = 1.0 - 2.0 * blocks.codes(labels)
        for label, sign in zip(labels, (1.0, -1.0), strict=True):
            if (signs == sign).sum() < 2:
                raise Unreadable(f"only one row has the label {label!r}: it cannot be held out too")
        numbers = np.empty((len(blocks), blocks.size))
        for block in blocks:
            for _, matrix in block.features.matrices():
                numbers[block.rows] = matrix
        spread = numbers.std(axis=0)
        numbers = (numbers - numbers.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        return Rows(numbers, self.layout.codes(group), self.layout.sizes, signs)

    def candidates(self) -> list[Cross]:
        """Give the crossings of two of what there is, which are none of it and fit a vector."""
        layout = self.layout
        present = [*((i,) for i in range(len(layout.columns))), *layout.crosses]
        pairs = {tuple(sorted({*a, *b})) for a, b in itertools.combinations(present, 2)}
        used = len(layout.numbers) + sum(layout.sizes) + sum(layout.widths(layout.crosses))
        new = sorted(pairs - set(layout.crosses), key=lambda cross: (len(cross), cross))
        widths = layout.widths(new)
        return [c for c, width in zip(new, widths, strict=True) if used + width <= _SIZE_MAX]

    def evaluate(self, candidates: Sequence[Cross]) -> list[float]:
        """Give, of each candidate, the mean area under the curve of all divisions of the rows."""
        group = self._group
        mine = dict.fromkeys(range(group.rank, len(candidates), group.size), 0.0)
        for draw in range(self._draws if mine else 0):
            known, held = split(self._rows.signs, self._fraction, draw)
            train, test = self._rows.take(known), self._rows.take(held)
            base = self._base(draw, train)
            for number in mine:
                codes, size = self._codes(candidates[number])
                mine[number] += self._area(train, test, base, codes[known], codes[held], size)
        found: dict[str, float] = {}
        for part in group.gather(json.dumps(mine).encode()):
            found |= json.loads(part)
        return [found[str(number)] / self._draws for number in range(len(candidates))]

    def choose(self, cross: Cross, score: float) -> None:
        """Add a crossing."""
        codes, size = self._codes(cross)
        if self._fixed:
            for draw in range(self._draws):
                known, _ = split(self._rows.signs, self._fraction, draw)
                train = self._rows.take(known)
                base = self._base(draw, train)
                added = regress_field(train.margins(base), train.signs, codes[known], size)
                self._found[draw] = np.concatenate((base, added))
                self._known[draw] += 1
        self._rows = self._rows.with_field(codes, size)
        self.layout.crosses.append(cross)
        self.scores.append(score)

    def _base(self, draw: int, train: Rows) -> Array:
        """Give the coefficients of what was chosen, of the rows to train with."""
        if self._known[draw] < len(train.sizes):
            start = np.zeros(train.begins[-1])
            start[: len(self._found[draw])] = self._found[draw]
            self._found[draw] = regress(train, start)
            self._known[draw] = len(train.sizes)
        return self._found[draw]

    def _codes(self, cross: Cross) -> tuple[Codes, int]:
        """Give the combinations of a crossing that the rows have, numbered."""
        codes = self.layout.crossed(self._rows.fields, cross)
        (width,) = self.layout.widths([cross])
        if width <= _LOOSE * len(codes):
            return codes, width
        values, codes = np.unique(codes, return_inverse=True)
        return codes, len(values)

    def _area(
        self, train: Rows, test: Rows, base: Array, codes: Codes, held: Codes, size: int
    ) -> float:
        before = train.margins(base)
        start = np.concatenate((base, regress_field(before, train.signs, codes, size)))
        if not self._fixed:
            start = regress(train.with_field(codes, size), start)
        margins = test.with_field(held, size).margins(start)
        return area_under_curve(margins, test.signs > 0)


def train(params: Params) -> Any:
    """Make the search of ``maxSearchStep`` steps."""

    def run(group: Group) -> pa.Table:
        search = Search(group, params)
        for _ in range(params["maxSearchStep"]):
            candidates = search.candidates()
            if not candidates:
                break
            scores = search.evaluate(candidates)
            best = max(range(len(scores)), key=scores.__getitem__)  # of equal ones the first
            search.choose(candidates[best], scores[best])
        return search.layout.write(search.scores)

    return run


def select(params: Params) -> Any:
    """Make the choice of ``crossFeatureNumber`` of the crossings ``candidates``."""
    candidates = [tuple(cross) for cross in params["candidates"]]

    def run(group: Group) -> pa.Table:
        search = Search(group, params)
        for cross in candidates:
            replace(search.layout, crosses=[cross]).check()
        scores = search.evaluate(candidates)
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        chosen = order[: params["crossFeatureNumber"]]
        layout = search.layout
        layout.crosses = [candidates[i] for i in chosen]
        layout.check()
        return layout.write([scores[i] for i in chosen])

    return run


# --- applying ---


class Predict:
    """Gives vectors of numbers, categories and crossings.

    In ``Dense`` ones stand the numbers themselves and then, for each column and crossing, the
    place of its 1, counted without the numbers.
    """

    def __init__(self, params: Params, types: Types) -> None:
        del types
        self._dense = params["outputFormat"].upper() == "DENSE"
        self._original: bool = params.get("appendOriginalData", True)
        self._layout = Layout([], [], [], False, [])

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        self._layout = Layout.read(table)

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the vectors; NULL where a number is."""
        layout = self._layout
        count = batch.num_rows
        codes = layout.codes([batch])
        crossed = [layout.crossed(codes, cross) for cross in layout.crosses]
        widths = layout.widths(layout.crosses)
        if self._original:
            names, parts, sizes = layout.numbers, [*codes, *crossed], [*layout.sizes, *widths]
        else:
            names, parts, sizes = [], crossed, widths
        numbers = np.empty((count, len(names)))
        for i, name in enumerate(names):
            numbers[:, i] = floats(column_of(batch, name), name)
        valid = np.asarray(~np.isnan(numbers).any(axis=1), np.bool_)
        begins = np.array([0, *itertools.accumulate(sizes)][: len(sizes)], np.int64)
        places = np.stack(parts, axis=1) + begins if parts else np.empty((count, 0), np.int64)
        whole = None if valid.all() else valid
        if self._dense:
            together = np.hstack((numbers, places.astype(np.float64)))
            return [Vectors.of_matrix(together, whole).to_arrow()]
        width = len(names) + len(parts)
        given = np.arange(len(names))
        indices = np.hstack((np.broadcast_to(given, numbers.shape), places + len(names)))
        values = np.hstack((numbers, np.ones(places.shape)))
        rows = np.flatnonzero(valid)
        vectors = Vectors.of_entries(
            np.repeat(rows, width),
            indices[rows].ravel(),
            values[rows].ravel(),
            np.full(count, len(names) + sum(sizes)),
            np.zeros(count, np.bool_),
            whole,
        )
        return [vectors.to_arrow()]


# --- what stands where ---


def places(params: Params) -> Any:
    """Make the table of what each place of a model's vectors stands for, but numbers."""
    del params

    def run(group: Group) -> pa.Table:
        layout = Layout.read(pa.Table.from_batches(list(group), group.schema))
        fields = [(i,) for i in range(len(layout.columns))]
        widths = layout.widths([*fields, *layout.crosses])
        if sum(widths) > _PLACES_MAX:
            raise Unreadable(f"the vectors have {sum(widths)} places, which are too many to list")
        others = [_NULL, _RARE] if layout.with_else else [_NULL]
        texts = [pa.array([*values, *others], pa.string()) for values in layout.values]
        names = [
            name
            for cross, width in zip([*fields, *layout.crosses], widths, strict=True)
            for name in [" and ".join(layout.columns[i] for i in cross)] * width
        ]
        values = [_combinations([texts[i] for i in cross]) for cross in [*fields, *layout.crosses]]
        first = len(layout.numbers)
        index = pa.array(np.arange(first, first + len(names)), pa.int32())
        values = pa.concat_arrays(values)
        return pa.table({"index": index, "feature": pa.array(names, pa.string()), "value": values})

    return run


def _combinations(texts: Sequence[pa.Array]) -> pa.Array:
    """Write all combinations of texts, of which the first ones change fastest."""
    total = math.prod(map(len, texts))
    at = np.arange(total)
    parts: list[pa.Array] = []
    for own in texts:
        at, digit = np.divmod(at, len(own))
        parts.append(own.take(pa.array(digit)))
    return pc.binary_join_element_wise(*parts, string(", "))
