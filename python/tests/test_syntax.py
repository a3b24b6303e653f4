"""Parsing in several threads, which CPython 3.11 cannot do by itself."""

from __future__ import annotations

import threading

import pytest

from alink import _syntax

SOURCE = "+".join(f"f{i}(a.b(c)[{i}])" for i in range(300))


def test_threads_may_parse_at_the_same_time():
    failures = []

    def work():
        try:
            for _ in range(100):
                _syntax.parse(SOURCE, mode="eval")
        except BaseException as error:  # noqa: BLE001 looked at below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_literals():
    assert _syntax.literal(" {'a': [1, None]}") == {"a": [1, None]}
    with pytest.raises(ValueError, match="malformed"):
        _syntax.literal("f()")
