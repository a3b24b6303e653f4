"""Alink's definitions of features over time, read from their JSON.

A definition is ``{"CLASS_NAME": …, "INSTANCE": {…}}``, as Alink's own classes write it: the class
says of which rows (``LatestN…``, ``TumbleWindow…``) and of what (``…NumericStatFeatures``) a
feature is computed, the instance names columns, groups, lengths and statistics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alink._diag import did_you_mean, quote
from alink._options import bad_option

_CLASS = re.compile(
    r"(Latest(?:N|TimeInterval|TimeSlot)|(?:Tumble|Hop|Session|Slot)Window|NDays)"
    r"(Numeric|CrossCategorical|Categorical)StatFeatures\Z"
)

#: The windows that end with a row, and those that stand in time, with what names of columns call
#: them.
LATEST = {"LatestN": "ln", "LatestTimeInterval": "lti", "LatestTimeSlot": "lts"}
WINDOWS = {"TumbleWindow": "tw", "HopWindow": "hw", "SessionWindow": "sw", "SlotWindow": "slw"}
#: Where a definition has its lengths.
LENGTHS = {
    "LatestN": ("numbers",),
    "LatestTimeInterval": ("timeIntervals",),
    "LatestTimeSlot": ("timeSlots",),
    "TumbleWindow": ("windowTimes",),
    "HopWindow": ("windowTimes", "hopTimes"),
    "SessionWindow": ("sessionGapTimes",),
    "SlotWindow": ("windowTimes", "stepTimes"),
    "NDays": ("nDays",),
}
_DATA = {"Numeric": "n", "Categorical": "c", "CrossCategorical": "cc"}

_OF_TIMES = ("RANGE_START_TIME", "RANGE_END_TIME")
_OF_ALL = ("COUNT", "TOTAL_COUNT", "FREQ", "IS_EXIST")
_NUMERIC = (
    *_OF_TIMES, *_OF_ALL, "SUM", "MEAN", "STDDEV_SAMP", "STDDEV_POP", "VAR_SAMP", "VAR_POP",
    "SKEWNESS", "SQUARE_SUM", "MEDIAN", "MODE", "RANK", "DENSE_RANK", "ROW_NUMBER",
)  # fmt: skip
_CATEGORICAL = (*_OF_TIMES, *_OF_ALL, "DISTINCT_COUNT", "RATIO")
_DAYS_NUMERIC = ("TOTAL_COUNT", "COUNT", "SUM", "MIN", "MAX", "MEAN")
_DAYS_CATEGORICAL = ("TOTAL_COUNT", "COUNT", "DISTINCT_COUNT", "CATES_CNT", "KV_CNT")
#: Statistics with a setting: what a name has of them, and the setting.
_WITH_SETTING = {
    "LastN": ("lastn_{n}", "n"),
    "FirstN": ("firstn_{n}", "n"),
    "LastTimeN": ("lastn_time_{n}", "n"),
    "FirstTimeN": ("firstn_time_{n}", "n"),
    "SumLastN": ("sumlastn_{n}", "n"),
    "KvStat": ("kv_{n}", "n"),
    "ConcatAgg": ("concat_", "delimiter"),
}
_OF_NUMBERS = ("SumLastN",)
_OF_CATEGORIES = ("KvStat",)


@dataclass(frozen=True)
class Statistic:
    """What is computed of a column's values.

    Attributes
    ----------
    kind : str
        ``"COUNT"``, ``"LastN"`` and so on.
    name : str
        What names of columns have of it.
    n : int
        Which value, or how many, where the statistic has such a setting.
    text : str
        The delimiter of ConcatAgg; RANK, DENSE_RANK or nothing of KvStat.
    """

    kind: str
    name: str
    n: int = 0
    text: str = ""


@dataclass(frozen=True)
class Feature:
    """One definition, of one length.

    Attributes
    ----------
    window : str
        ``"LatestN"``, ``"TumbleWindow"``, ``"NDays"`` and so on.
    data : str
        "n" of numbers, "c" of categories, "cc" of several columns' categories together.
    lengths : tuple of str
        The number of rows, or the times, of the window; of NDays all that are asked for.
    groups : tuple of str
        The columns that rows of one group agree in.
    columns : tuple of tuple of str
        The columns that each feature is of.
    statistics : tuple of Statistic
    settings : mapping
        What else the instance has.
    """

    window: str
    data: str
    lengths: tuple[str, ...]
    groups: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    statistics: tuple[Statistic, ...]
    settings: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """What the names of the columns begin with."""
        short = {**LATEST, **WINDOWS}[self.window]
        return "_".join([self.data, short, *self.lengths, "_".join(self.groups)])

    def column(self, statistic: Statistic, columns: Sequence[str]) -> str:
        """Give the name of the column that has a statistic."""
        return f"{self.prefix}_{statistic.name}_{'_'.join(columns)}"


def read_definitions(name: str, text: str, windows: Mapping[str, str]) -> list[Feature]:
    """Read definitions of features, one for each length that they have.

    Parameters
    ----------
    name : str
        The operator's, for messages.
    text : str
        A list of definitions, or one, as JSON.
    windows : mapping
        The windows that the operator computes.

    Raises
    ------
    PlanError
        If the text has another form, or names what is not computed.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise bad_option(name, f"{name}: featureDefinitions is no JSON: {error}", _FORM) from None
    found: list[Feature] = []
    for item in given if isinstance(given, list) else [given]:
        found += _Reader(name, windows).features(item)
    if not found:
        raise bad_option(name, f"{name}: featureDefinitions is empty", _FORM)
    return found


_FORM = (
    'write [{"CLASS_NAME": "LatestNNumericStatFeatures", "INSTANCE": {"numbers": [3], '
    '"groupCols": ["user"], "featureCols": ["price"], "types": [{"CLASS_NAME": '
    '"NumericStatistics", "INSTANCE": "SUM"}]}}], with Java\'s whole names of classes or without'
)


class _Reader:
    def __init__(self, name: str, windows: Mapping[str, str]) -> None:
        self._name = name
        self._windows = windows

    def _bad(self, message: str, hint: str = _FORM) -> Exception:
        return bad_option(self._name, f"{self._name}: {message}", hint)

    def _pair(self, item: Any, what: str) -> tuple[str, Any]:
        """Give the last part of a class's name, and the instance."""
        named = item.get("CLASS_NAME") if isinstance(item, dict) else None
        if not isinstance(named, str) or "INSTANCE" not in item:
            shown = json.dumps(item, ensure_ascii=False)
            raise self._bad(f"{shown:.60} in featureDefinitions is no {what}")
        return named.rpartition(".")[2], item["INSTANCE"]

    def _texts(self, instance: Mapping[str, Any], key: str, *, needed: bool = True) -> list[str]:
        values = instance.get(key)
        if values is None and not needed:
            return []
        numbers = key == "numbers"
        kind = int if numbers else str
        if (
            not isinstance(values, list)
            or not (values or not needed)
            or not all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
        ):
            what = "numbers of rows" if numbers else "texts"
            raise self._bad(f"{quote(key)} of a definition is {values!r:.60}, no list of {what}")
        return [str(v) for v in values]

    def features(self, item: Any) -> list[Feature]:
        """Read one definition."""
        named, instance = self._pair(item, "definition of features")
        match = _CLASS.match(named)
        if match is None or (match[1] == "NDays" and match[2] == "CrossCategorical"):
            kinds = [f"{w}{d}StatFeatures" for w in self._windows for d in _DATA]
            raise self._bad(
                f"there are no features {named!r:.60}",
                did_you_mean(named, "definitions", kinds),
            )
        if match[1] not in self._windows:
            raise self._bad(
                f"{named} is not computed here",
                f"this operator has {', '.join(self._windows)}; GenerateFeatureOfLatest…, "
                "GenerateFeatureOfLatestNDays… and GenerateFeatureOfWindow… share the others",
            )
        if not isinstance(instance, dict):
            raise self._bad(f"the INSTANCE of {named} is {instance!r:.60}")
        lengths = [self._texts(instance, key) for key in LENGTHS[match[1]]]
        if len({len(values) for values in lengths}) > 1:
            keys = " and ".join(LENGTHS[match[1]])
            raise self._bad(f"{keys} of {named} are of different lengths", "give one for each")
        types = instance.get("types")
        if not isinstance(types, list) or not types:
            raise self._bad(f"'types' of {named} is {types!r:.60}, no list of statistics")
        feature = Feature(
            match[1],
            _DATA[match[2]],
            (),
            tuple(self._texts(instance, "groupCols", needed=False)),
            self._columns(instance, match[2] == "CrossCategorical"),
            tuple(self._statistic(of, match[1], match[2]) for of in types),
            instance,
        )
        if match[1] == "NDays":
            return [replace(feature, lengths=tuple(lengths[0]))]
        return [replace(feature, lengths=one) for one in zip(*lengths, strict=True)]

    def _columns(self, instance: Mapping[str, Any], cross: bool) -> tuple[tuple[str, ...], ...]:
        if not cross:
            return tuple((column,) for column in self._texts(instance, "featureCols"))
        given = instance.get("crossFeatureCols")
        if not isinstance(given, list) or not given:
            raise self._bad(f"'crossFeatureCols' is {given!r:.60}, no list of lists of columns")
        return tuple(tuple(self._texts({"crossFeatureCols": c}, "crossFeatureCols")) for c in given)

    def _statistic(self, item: Any, window: str, data: str) -> Statistic:
        named, instance = self._pair(item, "statistic")
        named = named.rpartition("$")[2]
        if isinstance(instance, str):
            numeric = data == "Numeric"
            if window == "NDays":
                known = _DAYS_NUMERIC if numeric else _DAYS_CATEGORICAL
            else:
                known = _NUMERIC if numeric else _CATEGORICAL
            if instance not in known:
                raise self._bad(
                    f"there is no statistic {instance!r:.60} of {data} features",
                    did_you_mean(instance, "statistics", known),
                )
            return Statistic(instance, instance.lower())
        other = _OF_CATEGORIES if data == "Numeric" else _OF_NUMBERS
        if window == "NDays" or named not in _WITH_SETTING or named in other:
            known = [s for s in _WITH_SETTING if s not in other] if window != "NDays" else []
            raise self._bad(
                f"there is no statistic {named!r:.60} of {data} features",
                did_you_mean(named, "statistics with a setting", known) if known else _FORM,
            )
        pattern, key = _WITH_SETTING[named]
        value = instance.get(key) if isinstance(instance, dict) else None
        if key == "delimiter":
            if not isinstance(value, str):
                raise self._bad(f"the delimiter of {named} is {value!r:.60}", "it is a text")
            return Statistic(named, pattern, text=value)
        if not isinstance(value, int) or isinstance(value, bool) or not self._may_be(named, value):
            raise self._bad(f"{key} of {named} is {value!r:.60}", "it is a number from 1")
        rank = instance.get("rankType") or ""
        if rank not in ("", "RANK", "DENSE_RANK"):
            raise self._bad(f"rankType of {named} is {rank!r:.60}", "it is RANK or DENSE_RANK")
        return Statistic(named, pattern.format(n=value), n=value, text=rank)

    @staticmethod
    def _may_be(named: str, value: int) -> bool:
        return value < 2**31 and (value >= 1 or named == "KvStat")
