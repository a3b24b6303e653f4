"""What models of encoders and of scalers of vectors say of themselves."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from alink._options import bad_option
from alink.operators._model_info import ModelInfo, headline, listed, mapped


class _TokensInfo(ModelInfo):
    """The values of columns that a model knows."""

    _title = ""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        #: The values of each column, in the order of their numbers.
        self._tokens: dict[str, list[Any]] = self._read()

    def _read(self) -> dict[str, list[Any]]:
        raise NotImplementedError

    def getSelectedColsInModel(self) -> list[str]:
        """Give the columns."""
        return list(self._tokens)

    def getDistinctTokenNumber(self, columnName: str) -> int:
        """Tell how many values of a column have a number."""
        return len(self.getTokens(columnName))

    def getTokens(self, columnName: str) -> list[Any]:
        """Give the values of a column, in the order of their numbers."""
        if columnName not in self._tokens:
            raise bad_option(
                self._title,
                f"{self._title}: the model has no column {columnName!r:.60}",
                f"it has {', '.join(self._tokens)}",
            )
        return list(self._tokens[columnName])

    def __str__(self) -> str:
        text = headline(self._title, "-")
        text += f"{self._title} on {len(self._tokens)} features: {listed(list(self._tokens))}\n"
        counts = {name: len(tokens) for name, tokens in self._tokens.items()}
        return text + mapped(counts, lines=True) + "\n"


class OneHotModelInfo(_TokensInfo):
    """The values of columns that a one-hot encoder knows."""

    _title = "OneHotModelInfo"

    def _read(self) -> dict[str, list[Any]]:
        rows = sorted(
            zip(*(column.to_pylist() for column in self._rows.columns), strict=True),
            key=lambda row: (row[0], -1 if row[2] is None else row[2]),
        )
        self._meta = {key: json.loads(text) for key, text in json.loads(rows[0][1]).items()}
        tokens: dict[str, list[Any]] = {name: [] for name in self._meta["selectedCols"]}
        names = list(tokens)
        for place, token, _ in rows[1:]:
            tokens[names[place]].append(token)
        return tokens


class MultiHotModelInfo(_TokensInfo):
    """The parts of texts that a multi-hot encoder knows."""

    _title = "MultiHotModelInfo"

    def _read(self) -> dict[str, list[Any]]:
        tokens: dict[str, list[Any]] = {name: [] for name in self._meta.get("selectedCols") or ()}
        for column, part, _, _ in sorted(map(json.loads, self._data), key=lambda row: row[2]):
            tokens.setdefault(column, []).append(part)
        return tokens


def _numbers(text: str) -> list[float]:
    """Read the numbers of a model's indices; of mostly zeros the others stand there alone."""
    given = json.loads(text)
    if isinstance(given, list):
        return given
    values = [0.0] * given["size"]
    for index, value in zip(given["indices"], given["values"], strict=True):
        values[index] = value
    return values


class VectorStandardScalerModelInfo(ModelInfo):
    """Means and standard deviations at the indices of vectors."""

    def getMeans(self) -> list[float]:
        """Give the means."""
        return _numbers(self._data[0])

    def getStdDevs(self) -> list[float]:
        """Give the standard deviations."""
        return _numbers(self._data[1])

    def isWithMeans(self) -> bool:
        """Tell whether means are taken off."""
        return bool(self._meta["withMean"])

    def isWithStdDevs(self) -> bool:
        """Tell whether values are divided by their standard deviations."""
        return bool(self._meta["withStd"])

    def __str__(self) -> str:
        text = headline("VectorStandardScalerModelInfo", "-")
        text += headline("means information", "=") + listed(self.getMeans()) + "\n"
        return text + headline("stdDevs information", "=") + listed(self.getStdDevs()) + "\n"


class VectorMinMaxScalerModelInfo(ModelInfo):
    """The extremes at the indices of vectors."""

    def getMins(self) -> list[float]:
        """Give the least values."""
        return _numbers(self._data[0])

    def getMaxs(self) -> list[float]:
        """Give the largest values."""
        return _numbers(self._data[1])

    def __str__(self) -> str:
        text = headline("VectorMinMaxScalerModelInfo", "-")
        text += headline("mins information", "=") + listed(self.getMins()) + "\n"
        return text + headline("maxs information", "=") + listed(self.getMaxs()) + "\n"


class VectorMaxAbsScalarModelInfo(ModelInfo):
    """The largest absolute values at the indices of vectors."""

    def getMaxAbs(self) -> list[float]:
        """Give the largest absolute values."""
        return _numbers(self._data[0])

    def __str__(self) -> str:
        text = headline("VectorMaxAbsScalerModelInfo", "-")
        return text + headline("maxAbs information", "=") + listed(self.getMaxAbs()) + "\n"


class VectorImputerModelInfo(ModelInfo):
    """What the NaN of vectors is filled with."""

    def getStrategy(self) -> str:
        """Tell what it is: MEAN, MIN, MAX or VALUE."""
        return str(self._meta["strategy"]).upper()

    def getFillValue(self) -> float | None:
        """Give what all indices are filled with, by VALUE."""
        return self._meta["fillValue"]

    def getFillValues(self) -> list[float] | None:
        """Give what each index is filled with; None by VALUE."""
        return _numbers(self._data[0]) if self._data else None

    def __str__(self) -> str:
        text = headline("VectorImputerModelInfo", "-")
        shown = [self.getFillValue()] if not self._data else self.getFillValues() or []
        return text + f"{self.getStrategy()}: {listed(shown)}\n"


class ExclusiveFeatureBundleModelInfo(ModelInfo):
    """The bundles of features that are never there together."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._about: dict[str, Any] = json.loads(self._meta["bundles_json"])

    def getBundles(self) -> list[list[int]]:
        """Give the features of each bundle."""
        bundles: list[list[int]] = [[] for _ in range(self._about["numFeatures"])]
        for feature, bundle in enumerate(self._about["toEfbIndex"]):
            if bundle >= 0:
                bundles[bundle].append(feature)
        return bundles

    def __str__(self) -> str:
        text = headline("ExclusiveFeatureBundleModelInfo", "-")
        text += f"Sparse Vector Dimension : {self._about['dimVector']} ,    "
        text += f"Number of Feature Bundles : {self._about['numFeatures']}\n"
        text += f"Feature Schema String : {self._about['schemaStr']}\nFeature Bundles Info : "
        for number, features in enumerate(self.getBundles()):
            text += f"\nBundle {number} : {listed(features)}"
        return text + "\n"
