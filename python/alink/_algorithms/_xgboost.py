"""Boosted trees, grown by XGBoost [Chen and Guestrin 2016] through its C interface.

The interface is that of include/xgboost/c_api.h, 3.0; the shared library is loaded without the
Python package around it, as that of `_lightgbm` is. What it has grown is read from its own JSON
and becomes a model of our own (see `_tree_models`), which is applied without it.

It is in one worker: its workers can only meet over sockets of its own, which a sandbox has not.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._lightgbm import shared_library
from ._strings import Unreadable
from ._tree_features import Array, Features, features_of
from ._tree_models import Forest, Stored, write_forest
from ._trees import Seen, require_classes
from ._vectors import Vectors, read_vectors

_MOST = float(np.finfo(np.float32).max)
#: What XGBoost says before the sentence itself: the time, its source's line, and what it looked at.
_PLACE = re.compile(r"\[[\d:]+\]\s+\S+:\d+:\s+(Check failed: .*?: (?=\S))?")

_Reset = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Next = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


def train(params: Mapping[str, Any]) -> Any:
    """Make the training; ``settings`` are the library's parameters, ``classifier`` tells of labels.

    ``outcome`` and ``base`` are those of the model; of more than two labels they are a softmax's.
    ``raw`` says that a classifier's model gives numbers.
    """

    def run(group: Group) -> pa.Table:
        seen = Seen(group, params, params["classifier"])
        features = features_of(group, params, absent=math.nan)
        settings, outcome = dict(params["settings"]), params["outcome"]
        if params["classifier"]:
            outcome = _of_classes(params, seen.labels, settings)
        groups = settings.get("num_class", 1)
        gains = np.zeros(len(features))
        trees: list[Stored] = []
        if len(features):
            with _Booster(settings, group, features, seen) as booster:
                found = booster.grown(params["numRound"])
            for tree, number in zip(found["trees"], found["tree_info"], strict=True):
                np.add.at(gains, *_gains(tree))
                trees.append(_stored(tree, number, features))
        else:
            trees.append(Stored(0, [-1], [0.0], [-1], [0], {}, np.zeros((1, 1))))
        base = params["base"] if outcome == params["outcome"] else float(params["baseScore"])
        raw = params.get("raw", False)
        labels = [] if raw else seen.labels
        forest = Forest(features, outcome, [base] * groups, trees, labels)
        label = group.schema.field(params["labelCol"]).type if params["classifier"] else None
        return write_forest(forest, params, gains, pa.float64() if raw else label)

    return run


def _of_classes(params: Mapping[str, Any], labels: list[Any], settings: dict[str, Any]) -> str:
    """Give the outcome of a classifier, whose settings are completed."""
    require_classes(params, labels)
    told = params.get("numClass") or 0
    if 0 < told < len(labels):
        raise Unreadable(
            f"numClass is {told}, but the label {params['labelCol']!r} has {len(labels)} values"
        )
    outcome = params["outcome"]
    if settings["objective"] != "multi:softprob":
        if len(labels) == 2:
            return outcome
        if outcome != "logistic":
            raise Unreadable(
                f"the objective {params['objective']} is of two classes, but the label "
                f"{params['labelCol']!r} has {len(labels)} values: set objective to MULTI_SOFTPROB"
            )
        outcome = "softmax"
    settings |= {"objective": "multi:softprob", "num_class": len(labels)}
    return outcome


def _interface(array: npt.NDArray[Any]) -> bytes:
    """Describe an array as the library takes it, by numpy's array interface."""
    kind = array.__array_interface__
    told = {key: kind[key] for key in ("data", "shape", "typestr", "version")}
    return json.dumps(told).encode()


def _single(values: Any) -> Any:
    """Give numbers in single precision; what is beyond it is its largest number."""
    return np.clip(values, -_MOST, _MOST).astype(np.float32, order="C")


#: Rows, shape (rows, features).
_Dense = npt.NDArray[np.float32]


@dataclass
class _Sparse:
    """Rows of which some numbers are not there, which are missing."""

    offsets: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]

    @classmethod
    def of(cls, rows: _Dense | _Sparse) -> _Sparse:
        if isinstance(rows, _Sparse):
            return rows
        count, width = rows.shape
        indices = np.tile(np.arange(width, dtype=np.int32), count)
        return cls(np.arange(count + 1, dtype=np.int64) * width, indices, rows.ravel())

    @classmethod
    def of_all(cls, parts: Sequence[_Sparse]) -> _Sparse:
        begins = np.cumsum([0, *(part.offsets[-1] for part in parts)])
        offsets = [part.offsets[1:] + begin for part, begin in zip(parts, begins, strict=False)]
        return cls(
            np.concatenate([np.zeros(1, np.int64), *offsets]),
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.values for part in parts]),
        )

    def interfaces(self) -> tuple[bytes, bytes, bytes]:
        """Describe the rows."""
        return _interface(self.offsets), _interface(self.indices), _interface(self.values)


def _vectors(vectors: Vectors, size: int) -> _Dense | _Sparse:
    """Give vectors as rows; of one that is NULL nothing is there."""
    if vectors.indices is None and vectors.valid is None:
        return _single(vectors.matrix(size))
    vectors.require_size(size)
    indices = vectors.indices_of_values.astype(np.int32)
    return _Sparse(vectors.offsets, indices, _single(vectors.values))


class _Booster:
    """What the library holds of a training; a context manager that frees it."""

    def __init__(
        self, settings: Mapping[str, Any], group: Group, features: Features, seen: Seen
    ) -> None:
        self._library = shared_library("xgboost", "XGBoost")
        self._library.XGBGetLastError.restype = ctypes.c_char_p
        self._settings = {
            **settings,
            "nthread": len(os.sched_getaffinity(0)),
            "verbosity": 0,
            "validate_parameters": 0,
        }
        self._group = group
        self._features = features
        self._matrix = ctypes.c_void_p()
        self._proxy = ctypes.c_void_p()
        self._booster = ctypes.c_void_p()
        self._failed: BaseException | None = None
        #: The rows that the library looks at.
        self._rows: Any = None
        if settings["tree_method"] in ("auto", "hist") and "updater" not in settings:
            self._make_bins()
        else:
            self._copy()
        target = seen.target if seen.codes is None else seen.codes
        with np.errstate(over="ignore"):  # the library refuses what is infinite
            labels = np.ascontiguousarray(target, np.float32)
        self._call("XGDMatrixSetInfoFromInterface", self._matrix, b"label", _interface(labels))

    def __enter__(self) -> _Booster:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.XGBoosterFree(self._booster)
        self._library.XGDMatrixFree(self._proxy)
        self._library.XGDMatrixFree(self._matrix)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if self._failed is not None:
            raise self._failed
        if status:
            said = self._library.XGBGetLastError().decode(errors="replace")
            told = " ".join(said.partition("Stack trace")[0].split())
            raise Unreadable(f"XGBoost: {_PLACE.sub('', told):.300}")

    def _batches(self) -> Iterator[_Dense | _Sparse]:
        """Give the rows as the library takes them, NaN is missing; categories count from 0."""
        if self._features.vector is not None:
            for batch in self._group:
                yield _vectors(read_vectors(batch, self._features.vector), len(self._features))
            return
        codes = np.array([known is not None for known in self._features.categories])
        for batch in self._group:
            rows = _single(self._features.read(batch)[0].T)
            if codes.any():
                kinds = rows[:, codes] - 1
                kinds[kinds < 0] = np.nan
                rows[:, codes] = kinds
            yield rows

    def _describe(self, matrix: Any) -> None:
        """Tell which features are categories, where some are."""
        kinds = [b"q" if known is None else b"c" for known in self._features.categories]
        if b"c" in kinds:
            self._call(
                "XGDMatrixSetStrFeatureInfo",
                matrix,
                b"feature_type",
                (ctypes.c_char_p * len(kinds))(*kinds),
                ctypes.c_uint64(len(kinds)),
            )

    def _copy(self) -> None:
        """Hold the rows as numbers."""
        batches = list(self._batches())
        dense = [batch for batch in batches if not isinstance(batch, _Sparse)]
        config = json.dumps({"missing": math.nan, "nthread": self._settings["nthread"]}).encode()
        if len(dense) < len(batches):
            rows = _Sparse.of_all([_Sparse.of(batch) for batch in batches])
            self._call(
                "XGDMatrixCreateFromCSR",
                *rows.interfaces(),
                ctypes.c_uint64(len(self._features)),
                config,
                ctypes.byref(self._matrix),
            )
        else:
            rows = np.concatenate(dense)
            self._call(
                "XGDMatrixCreateFromDense", _interface(rows), config, ctypes.byref(self._matrix)
            )
        self._describe(self._matrix)

    def _make_bins(self) -> None:
        """Hold the rows as bins, which the library makes in several passes over the batches."""
        self._call("XGProxyDMatrixCreate", ctypes.byref(self._proxy))
        waiting = self._batches()

        def reset(_: Any) -> None:
            nonlocal waiting
            waiting = self._batches()

        def following(_: Any) -> int:
            # What is raised here cannot pass the library: it is raised when that returns.
            try:
                self._rows = rows = next(waiting, None)
                if rows is None:
                    return 0
                if isinstance(rows, _Sparse):
                    width = ctypes.c_uint64(len(self._features))
                    self._call("XGProxyDMatrixSetDataCSR", self._proxy, *rows.interfaces(), width)
                else:
                    self._call("XGProxyDMatrixSetDataDense", self._proxy, _interface(rows))
                self._describe(self._proxy)
            except BaseException as error:  # noqa: BLE001
                self._failed = error
                return 0
            return 1

        config = {
            "missing": math.nan,
            "nthread": self._settings["nthread"],
            "max_bin": self._settings["max_bin"],
        }
        self._call(
            "XGQuantileDMatrixCreateFromCallback",
            None,
            self._proxy,
            None,
            _Reset(reset),
            _Next(following),
            json.dumps(config).encode(),
            ctypes.byref(self._matrix),
        )

    def grown(self, rounds: int) -> Mapping[str, Any]:
        """Grow the trees of so many rounds; give them as the library's JSON has them."""
        self._call(
            "XGBoosterCreate",
            (ctypes.c_void_p * 1)(self._matrix),
            ctypes.c_uint64(1),
            ctypes.byref(self._booster),
        )
        for name, value in self._settings.items():
            self._call("XGBoosterSetParam", self._booster, name.encode(), str(value).encode())
        for number in range(rounds):
            self._call("XGBoosterUpdateOneIter", self._booster, ctypes.c_int(number), self._matrix)
        length, text = ctypes.c_uint64(), ctypes.c_void_p()
        self._call(
            "XGBoosterSaveModelToBuffer",
            self._booster,
            b'{"format": "json"}',
            ctypes.byref(length),
            ctypes.byref(text),
        )
        model = json.loads(ctypes.string_at(text.value or 0, length.value))
        return model["learner"]["gradient_booster"]["model"]


def _gains(tree: Mapping[str, Any]) -> tuple[Any, Any]:
    """Give the features of a tree's splits, and what each gained."""
    splits = np.flatnonzero(np.array(tree["left_children"]) >= 0)
    return np.array(tree["split_indices"])[splits], np.array(tree["loss_changes"])[splits]


def _up_to(limits: Array) -> Array:
    """Give the largest numbers that are below limits of single precision, once rounded to it."""
    single = limits.astype(np.float32)
    below = np.nextafter(single, np.float32(-np.inf))
    middle = below.astype(np.float64) / 2 + single.astype(np.float64) / 2
    # The middle is rounded to the neighbour whose last bit is 0.
    upwards = below.view(np.int32) & 1 == 1
    return np.where(upwards, np.nextafter(middle, -np.inf), middle)


def _stored(tree: Mapping[str, Any], group: int, features: Features) -> Stored:
    left, right = tree["left_children"], tree["right_children"]
    limits = np.array(tree["split_conditions"], np.float64)
    thresholds = _up_to(limits)
    # The nodes that are left, each pair of children side by side.
    order, at = [0], {0: 0}
    for node in order:
        if left[node] >= 0:
            at[left[node]], at[right[node]] = len(order), len(order) + 1
            order += [left[node], right[node]]
    seconds = _second_branches(tree)
    feature: list[int] = []
    threshold: list[float] = []
    child: list[int] = []
    missing: list[int] = []
    branches: dict[int, npt.NDArray[np.intp]] = {}
    value = np.zeros((len(order), 1))
    for node in order:
        split = left[node] >= 0
        feature.append(tree["split_indices"][node] if split else -1)
        known = features.categories[feature[-1]] if split else None
        child.append(at[left[node]] if split else -1)
        missing.append(int(split and not tree["default_left"][node]))
        threshold.append(float(thresholds[node]) if split and known is None else 0.0)
        if known is not None:
            table = np.zeros(len(known) + 1, np.intp)
            table[0] = missing[-1]
            table[seconds[node] + 1] = 1
            branches[at[node]] = table
        if not split:
            value[at[node]] = limits[node]
    return Stored(group, feature, threshold, child, missing, branches, value)


def _second_branches(tree: Mapping[str, Any]) -> dict[int, npt.NDArray[np.intp]]:
    """Give the categories that take the second branch, of each node that splits them."""
    kinds = np.array(tree["categories"], np.intp)
    parts = zip(
        tree["categories_nodes"],
        tree["categories_segments"],
        tree["categories_sizes"],
        strict=True,
    )
    return {node: kinds[begin : begin + size] for node, begin, size in parts}
