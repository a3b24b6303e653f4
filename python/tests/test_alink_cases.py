"""Every recorded program of PyAlink, run through ``from pyalink.alink import *``."""

from __future__ import annotations

import os

import alink_cases
import pytest
from alink_faults import FAULTS


def test_recorded_programs(tell) -> None:
    if not alink_cases.FOLDER.is_dir():
        assert "ALINK_CASES" not in os.environ, "ALINK_CASES names no folder"
        pytest.skip(f"the recorded cases are not at {alink_cases.FOLDER}")
    names = alink_cases.case_names()
    assert len(names) > 300
    results = {name: alink_cases.run(name) for name in names}
    failed = {name: why for name, (state, why) in results.items() if state == "failed"}
    tell(alink_cases.summary(results))
    for name, why in failed.items():
        tell(f"failed: {name}: {FAULTS.get(name) or why}")
    assert failed.keys() <= FAULTS.keys()
    passed = {name for name, (state, _) in results.items() if state == "passed"}
    assert not passed & FAULTS.keys(), "no faults any more"
