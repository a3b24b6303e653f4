"""Aggregates: a class whose objects make one value of a group.

``create()`` gives the state of a group without rows, ``add(state, *columns)`` takes rows into it,
``merge(state, other)`` another state, and ``result(state)`` makes the value. ``add`` and
``merge`` return the new state, or change a state that can be changed and return nothing. What
they all get has the form of what ``create`` returned.

States cross to the engine as columns of the declared fields, so a worker keeps nothing between
bundles: partial states of a bundle's groups first, merged ones at the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

from . import _columns, _errors, _values
from ._calls import around, without_library
from ._clock import CLOCK
from ._errors import Failure
from ._exact import Misfit, by_name, is_dataclass, type_name
from ._forms import FORMS
from ._groups import boundaries, show_value
from ._keys import Grouping, Runs, grouped
from ._task import decode_schema
from ._types import is_list, name_of
from ._views import bits

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from ._functions import Library
    from ._task import Task

# More groups than that in one bundle are given to the engine before its end.
GROUPS_MAX = 1 << 17
_MUTABLE = (list, dict, set, bytearray)


class _Aggregator:
    """One call: the user's object, and its states."""

    def __init__(
        self, spec: Mapping[str, Any], library: Library, enter: Callable[[str], None]
    ) -> None:
        self.name: str = spec["name"]
        self.args: Sequence[int] = spec.get("args") or ()
        self.skips_null: bool = spec.get("on_null") == "skip"
        self._rows_max: int = spec.get("batch_rows") or 0
        self._form = FORMS[spec.get("batch") or "arrow"]
        self._state = decode_schema(spec["state_schema"])
        self._spec = spec
        self._library = library
        self._enter = enter
        self._object: Any = None
        self._shape: Any = None
        self._sample: Any = None

    @contextlib.contextmanager
    def at_work(self) -> Generator[None]:
        """Say that this call's functions run, and in a failure of the block that it is theirs.

        What must hold while they run is set up once for all of them: for pandas it takes longer
        than to add the few rows that a group has in a batch.
        """
        self._enter(self.name)
        CLOCK.python()
        try:
            with around(self.name, self._form):
                yield
            CLOCK.convert()
        except Failure as failure:
            failure.details.setdefault("function", self._spec["id"])
            failure.details.setdefault("name", self.name)
            raise

    def start(self) -> None:
        """Load the object and look at the state that it creates."""
        self._object = self._library.load(self._spec)
        self._sample = self._call("create")
        self._shape = _StateShape(self.name, self._state, self._sample)

    def create(self) -> Any:
        """Make the state of a group without rows."""
        state = self._call("create")
        if state is self._sample and isinstance(state, _MUTABLE):
            raise Failure(
                "type",
                f"{self.name}.create returned the same {type_name(state)} twice",
                hint="make a new one in create: groups must not share their state",
            )
        return state

    def cutter(self, columns: Sequence[pa.Array]) -> Callable[[int, int], list[Any]]:
        """Give what gives a range of rows of columns as ``add`` gets it."""
        return self._given(self._form.cutter, columns)

    def add(self, state: Any, cut: Callable[[int, int], list[Any]], start: int, end: int) -> Any:
        """Take a range of rows into a state."""
        if end - start <= (self._rows_max or end - start):
            return self._changed("add", state, self._given(cut, start, end))
        size = self._rows_max
        for at in range(start, end, size):
            state = self._changed("add", state, self._given(cut, at, min(at + size, end)))
        return state

    def _given(self, give: Callable[..., Any], *what: Any) -> Any:
        try:
            return give(*what)
        except ImportError as exception:
            raise without_library(self.name, self._form, exception) from None

    def merge(self, state: Any, other: Any) -> Any:
        """Take another state into one."""
        return self._changed("merge", state, [other])

    def result(self, state: Any) -> Any:
        """Make the value of a state."""
        return self._call("result", state)

    def states(self, columns: Sequence[pa.Array]) -> Iterator[Any]:
        """Read the states of columns."""
        values = zip(*(_values.to_values(column) for column in columns), strict=True)
        return map(self._shape.state_of, values)

    def columns(self, states: list[Any]) -> list[pa.Array]:
        """Make columns of states.

        Raises
        ------
        _AtGroup
            A state does not fit its fields.
        """
        rows: list[Any] = []
        try:
            rows.extend(map(self._shape.values_of, states))
        except Failure as failure:
            raise _AtGroup(failure, len(rows)) from None
        columns = zip(*rows, strict=True) if rows else ([] for _ in self._state)
        return [
            self._column(list(values), field.type, f"has the state {field.name} =")
            for field, values in zip(self._state, columns, strict=True)
        ]

    def results(self, states: list[Any], type_: pa.DataType) -> pa.Array:
        """Make the column of the values of states."""
        values: list[Any] = []
        try:
            values.extend(map(self.result, states))
        except Failure as failure:
            raise _AtGroup(failure, len(values)) from None
        return self._column(values, type_, "returned")

    def _column(self, values: list[Any], type_: pa.DataType, what: str) -> pa.Array:
        before = CLOCK.convert()
        try:
            return _columns.to_array(values, type_)
        except Misfit as misfit:
            value = _errors.short_repr(misfit.value)
            text = f"{self.name} {what} {value} ({misfit.got}), which {misfit.expected} cannot hold"
            failure = Failure(
                "type", text, expected=misfit.expected, got=misfit.got, hint=misfit.hint or None
            )
            raise _AtGroup(failure, misfit.row or 0) from None
        finally:
            CLOCK.to(before)

    def _changed(self, method: str, state: Any, arguments: Sequence[Any]) -> Any:
        changed = self._call(method, state, *arguments)
        if changed is not None:
            return changed
        if self._shape.mutable:
            return state
        if self._shape.bare:
            return None
        raise Failure(
            "type",
            f"{self.name}.{method} returned None where the new state is expected",
            hint="return the state; only a list, a dict or a dataclass may be changed in place",
            got="None",
        )

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._object, method)(*arguments)
        except BaseException as exception:
            raise _errors.raised(exception, f"{self.name}.{method} raised") from None


class _AtGroup(Exception):
    """A failure of the group that has an index."""

    def __init__(self, failure: Failure, group: int) -> None:
        super().__init__()
        self.failure = failure
        self.group = group


class _StateShape:
    """How a state that ``create`` made is written as fields, and read again.

    A state of several fields is a tuple or a list in their order, or a dict, a named tuple or a
    dataclass of their names. A state of one field is its value, or one of these of one value; a
    list is the value if the field is a list or a map, and a dict if it is a struct or a map.
    """

    def __init__(self, name: str, schema: pa.Schema, sample: Any) -> None:
        self._name = name
        self._fields = schema.names
        one = schema.field(0).type if len(schema) == 1 else None
        self._one = one is not None
        self._dict_is_value = one is not None and (types.is_struct(one) or types.is_map(one))
        self._list_is_value = one is not None and (is_list(one) or types.is_map(one))
        self._described = ", ".join(f"{f.name} {name_of(f.type)}" for f in schema)
        self.bare = self._split(sample) is None
        self._type = type(sample)
        self.values_of(sample)
        self.mutable = isinstance(sample, _MUTABLE) or is_dataclass(sample)
        self.state_of = self._reader(sample)

    def _reader(self, sample: Any) -> Callable[[tuple[Any, ...]], Any]:
        fields, kind = self._fields, self._type
        if self.bare:
            return lambda values: values[0]
        if isinstance(sample, Mapping):
            return lambda values: dict(zip(fields, values, strict=True))
        if is_dataclass(sample):
            return lambda values: kind(**dict(zip(fields, values, strict=True)))
        if hasattr(sample, "_asdict"):
            return lambda values: kind(**dict(zip(fields, values, strict=True)))
        return list if isinstance(sample, list) else tuple

    def values_of(self, state: Any) -> Sequence[Any]:
        """Give a state's values in the order of the fields."""
        values = self._split(state)
        if values is not None:
            return values
        if self._one:
            return (state,)
        raise self._refuse(type_name(state))

    def _split(self, state: Any) -> Sequence[Any] | None:
        """Give the values of a state that has several, or of one in a tuple or the like."""
        if type(state) is tuple and len(state) == len(self._fields):
            return state
        if isinstance(state, pa.MonthDayNano):
            return None  # a value, although it is a tuple
        named = by_name(state)
        if named is not None:
            is_value = self._dict_is_value and isinstance(state, Mapping)
            return None if is_value else self._named(named)
        if not isinstance(state, (tuple, list)):
            return None
        if isinstance(state, list) and self._list_is_value:
            return None
        if len(state) != len(self._fields):
            raise self._refuse(f"a {type_name(state)} of {len(state)}")
        return state

    def _named(self, state: Mapping[str, Any]) -> Sequence[Any]:
        if set(state) != set(self._fields):
            raise self._refuse(f"{', '.join(map(str, state)) or 'nothing'} by name")
        return [state[name] for name in self._fields]

    def _refuse(self, got: str) -> Failure:
        text = f"a state of {self._name} is {got} where {self._described} is declared"
        hint = "a state is a tuple, a list or a dict with a value for each field"
        return Failure("type", text, got=got, expected=self._described, hint=hint)


class _Stage:
    """What the two stages have in common."""

    def __init__(self, task: Task, first_key: int) -> None:
        self._key_count: int = task.spec["keys"]
        self._first_key = first_key
        self._key_names = task.input.names[first_key : first_key + self._key_count]
        self._calls = [_Aggregator(spec, task.library, task.enter) for spec in task.calls]
        self._output = task.output

    def run(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Give the bundle's output."""
        for call in self._calls:
            with call.at_work():
                call.start()
        yield from self._outputs(batches)

    def _outputs(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError

    def _keys(self, batch: pa.RecordBatch) -> list[pa.Array]:
        return [batch.column(self._first_key + i) for i in range(self._key_count)]

    def _rows(self, keys: Sequence[pa.Array], columns: Sequence[pa.Array]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([*keys, *columns], schema=self._output)

    @contextlib.contextmanager
    def _naming_group(self, call: _Aggregator, keys: Sequence[pa.Array]) -> Generator[None]:
        """Say in a failure of a call on which group it was."""
        with call.at_work():
            try:
                yield
            except _AtGroup as error:
                if keys:
                    _tell_group(error.failure, call.name, self._describe(keys, error.group))
                raise error.failure from None

    def _describe(self, keys: Sequence[pa.Array], group: int) -> str:
        row = pa.RecordBatch.from_arrays(
            [key.slice(group, 1) for key in keys], names=self._key_names
        )
        return ", ".join(show_value(row, i, 0) for i in range(len(keys)))


def _tell_group(failure: Failure, name: str, group: str) -> None:
    """Put the group behind the function's name: "mean.add, on the group a = 1, raised …"."""
    head, space, rest = failure.details["message"].partition(" ")
    if head.partition(".")[0] == name:
        failure.details["message"] = f"{head}, on the group {group},{space}{rest}"


class Aggregate(_Stage):
    """Rows to partial states: one row for each group of the bundle."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, 0)

    def _outputs(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        groups = _Groups(self._key_count, self._calls)
        for batch in batches:
            if batch.num_rows:
                self._add(groups, batch)
            if groups.count > GROUPS_MAX:
                yield self._partial(groups)
                groups = _Groups(self._key_count, self._calls)
        if self._key_count == 0:
            groups.grow(1)
        if groups.count:
            yield self._partial(groups)

    def _add(self, groups: _Groups, batch: pa.RecordBatch) -> None:
        grouping = grouped(self._keys(batch), batch.num_rows)
        distinct = grouping.distinct()
        places = groups.places(distinct, grouping.count)
        for call, states in zip(self._calls, groups.states, strict=True):
            with self._naming_group(call, distinct):
                self._add_call(call, states, batch, grouping, places)

    def _add_call(
        self,
        call: _Aggregator,
        states: list[Any],
        batch: pa.RecordBatch,
        grouping: Grouping | Runs,
        places: list[int],
    ) -> None:
        arguments = [batch.column(i) for i in call.args]
        CLOCK.convert()
        valid = _valid(arguments) if call.skips_null else None
        columns, ends = grouping.split(arguments, valid)
        cut = call.cutter(columns)
        CLOCK.python()
        start = 0
        for group, end in enumerate(ends):
            if end > start:
                place = places[group]
                try:
                    states[place] = call.add(states[place], cut, start, end)
                except Failure as failure:
                    raise _AtGroup(failure, group) from None
            start = end

    def _partial(self, groups: _Groups) -> pa.RecordBatch:
        columns: list[pa.Array] = []
        for call, states in zip(self._calls, groups.states, strict=True):
            with self._naming_group(call, groups.keys):
                columns += call.columns(states)
        return self._rows(groups.keys, columns)


def _valid(arrays: list[pa.Array]) -> Any:
    """Give a mask of the rows without NULL; None if that is all of them."""
    valid = None
    for array in arrays:
        if array.null_count:
            mask = bits(array.buffers()[0], array)
            valid = mask if valid is None else valid & mask
    return valid


class _Groups:
    """The groups that a bundle has met, and for each a state of each call."""

    def __init__(self, key_count: int, calls: list[_Aggregator]) -> None:
        self._key_count = key_count
        self._calls = calls
        self.keys: list[pa.Array] = []
        self.count = 0
        self.states: list[list[Any]] = [[] for _ in calls]

    def places(self, distinct: list[pa.Array], count: int) -> list[int]:
        """Find the groups of distinct keys, and make those that are new."""
        if not self._key_count or not self.count:
            self.keys = distinct
            self.grow(count)
            return list(range(count))
        # The groups so far come first, so that they keep their numbers.
        both = [pa.concat_arrays(pair) for pair in zip(self.keys, distinct, strict=True)]
        grouping = Grouping(both, self.count + count)
        places = grouping.codes[self.count :].tolist()
        if grouping.count > self.count:
            self.keys = grouping.distinct()
            self.grow(grouping.count)
        return places

    def grow(self, count: int) -> None:
        """Create the states of new groups, up to so many in all."""
        for call, states in zip(self._calls, self.states, strict=True):
            with call.at_work():
                states.extend(call.create() for _ in range(len(states), count))
        self.count = max(self.count, count)


class Merge(_Stage):
    """Partial states to results: one row for each group, in the order of the input."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, 1)
        self._types = [task.output.field(self._key_count + i).type for i in range(len(self._calls))]

    def _outputs(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # The last group of a batch may go on in the next: it stays open.
        open_keys: list[pa.Array] = []
        open_states: list[list[Any]] = [[] for _ in self._calls]
        number: int | None = None
        for batch in batches:
            if batch.num_rows == 0:
                continue
            bounds, groups = boundaries(batch)
            new = pa.array(bounds[1:-1] if groups[0] == number else bounds[:-1], pa.int64())
            keys = [key.take(new) for key in self._keys(batch)]
            if open_keys:
                keys = [pa.concat_arrays(pair) for pair in zip(open_keys, keys, strict=True)]
            states = [
                self._merged(call, before, batch, set(new.to_pylist()), keys)
                for call, before in zip(self._calls, open_states, strict=True)
            ]
            whole = len(states[0]) - 1
            if whole:
                yield self._results([k.slice(0, whole) for k in keys], [s[:whole] for s in states])
            open_keys = [key.slice(whole) for key in keys]
            open_states = [s[whole:] for s in states]
            number = groups[-1]
        if number is not None:
            yield self._results(open_keys, open_states)

    def _merged(
        self,
        call: _Aggregator,
        before: list[Any],
        batch: pa.RecordBatch,
        new: set[int],
        keys: list[pa.Array],
    ) -> list[Any]:
        """Give the states of the open group and of those that begin in the batch."""
        states = list(before)
        with self._naming_group(call, keys):
            for row, state in enumerate(call.states([batch.column(i) for i in call.args])):
                if row in new:
                    states.append(state)
                    continue
                try:
                    states[-1] = call.merge(states[-1], state)
                except Failure as failure:
                    raise _AtGroup(failure, len(states) - 1) from None
        return states

    def _results(self, keys: list[pa.Array], states: list[list[Any]]) -> pa.RecordBatch:
        columns = []
        for call, of_call, type_ in zip(self._calls, states, self._types, strict=True):
            with self._naming_group(call, keys):
                columns.append(call.results(of_call, type_))
        return self._rows(keys, columns)
