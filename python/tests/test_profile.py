"""Where the time of Python functions goes."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

import alink as al

PARTS = ("python_s", "conversion_s", "transfer_s", "load_s")


def profiled(table: al.Table, name: str, folder) -> al.OperatorProgress:
    """Run a table and give what is known of one of its operators."""
    job = table.write_parquet(folder / f"{name}.parquet", mode="overwrite")
    (operator,) = [o for o in job.progress().operators if o.name == name]
    assert sum(getattr(operator, part) for part in PARTS) == pytest.approx(operator.time_s)
    assert all(getattr(operator, part) >= 0 for part in PARTS)
    return operator


def numbers(ctx: al.Context, rows: int) -> al.Table:
    return ctx.read_generator({"n": al.generate.sequence()}, rows=rows)


def test_a_function_that_sleeps_is_python_time(shared_ctx, tmp_path):
    @al.udf("bigint", workers=1)
    def sleeps(n: int) -> int:
        import time

        time.sleep(0.01)
        return n

    o = profiled(numbers(shared_ctx, 50).select(n=sleeps("n")), "sleeps", tmp_path)
    assert o.python_s > 0.5
    assert o.python_s > 4 * (o.conversion_s + o.transfer_s)
    (function,) = o.functions
    assert function["name"] == "sleeps"
    assert function["python_s"] == pytest.approx(o.python_s)
    assert o.batches >= 1
    assert o.bytes_to_workers >= 50 * 8
    assert o.bytes_from_workers >= 50 * 8


def test_long_strings_are_conversion_time(shared_ctx, tmp_path):
    @al.udf("string", workers=1)
    def unchanged(s: str) -> str:
        return s

    # Letters beyond ASCII have to be decoded and encoded.
    t = numbers(shared_ctx, 20_000).with_columns(s="repeat('é', 2000) || n::varchar")
    o = profiled(t.select(s=unchanged("s")), "unchanged", tmp_path)
    assert o.conversion_s > 2 * o.python_s


def test_wide_batches_are_transfer_time(shared_ctx, tmp_path):
    @al.udf("bigint", batch="arrow", workers=1)
    def first(*columns):
        return columns[0]

    t = numbers(shared_ctx, 400_000).with_columns({f"c{i}": f"n + {i}" for i in range(24)})
    o = profiled(t.select(n=first(*(f"c{i}" for i in range(24)))), "first", tmp_path)
    assert o.transfer_s > 2 * (o.python_s + o.conversion_s)
    assert o.bytes_to_workers >= 400_000 * 8 * 24


def test_input_queues_before_a_slow_function(shared_ctx, tmp_path):
    @al.udf("bigint", batch="numpy", batch_rows=8_192, workers=1)
    def slow(n):
        import time

        time.sleep(0.1)
        return n

    @al.udf("bigint", batch="numpy", workers=1, isolation="own")
    def quick(n):
        return n

    t = numbers(shared_ctx, 500_000).with_columns(m=slow("n"))
    job = t.select(k=quick("m")).write_parquet(tmp_path / "t.parquet")
    progress = {o.name: o for o in job.progress().operators}
    assert progress["slow"].queue_s > 0.5 * progress["slow"].time_s
    assert progress["slow"].python_s > 2


def test_functions_that_cross_together_are_told_apart(shared_ctx, tmp_path):
    @al.udf("bigint", workers=1)
    def a(n: int) -> int:
        import time

        time.sleep(0.005)
        return n

    @al.udf("bigint", batch="numpy", workers=1)
    def b(n):
        import time

        time.sleep(0.5)
        return n

    t = numbers(shared_ctx, 40).with_columns(x=a("n")).with_columns(y=b("x"), z=a(b("x")))
    o = profiled(t, "a, b, a", tmp_path)
    by_name = {f["name"]: f for f in o.functions}
    assert list(by_name) == ["a", "b"]
    assert by_name["a"]["python_s"] > 0.4
    assert by_name["b"]["python_s"] >= 0.5
    assert sum(f["python_s"] for f in o.functions) == pytest.approx(o.python_s)
    text = t.explain(analyze=True)
    assert "\n  a: python " in text
    assert " batches, " in text


@pytest.mark.parametrize("kind", ["map_batches", "udtf", "udaf", "map_groups", "fit"])
def test_every_kind_of_function_is_timed(shared_ctx, tmp_path, kind):
    t = numbers(shared_ctx, 20)
    name = {"map_batches": "batches", "udtf": "rows", "udaf": "sums", "map_groups": "by_group"}.get(
        kind, "fitted"
    )
    if kind == "map_batches":

        @al.map_batches("n bigint", workers=1)
        def batches(batch):
            import time

            time.sleep(0.2)
            yield batch
            time.sleep(0.2)

        table = t.map_batches(batches)
    elif kind == "udtf":

        @al.udtf("m bigint", workers=1)
        def rows(n):
            import time

            time.sleep(0.02)
            yield (n,)

        table = t.join_lateral(rows("n"))
    elif kind == "udaf":

        @al.udaf("bigint", state="s bigint", workers=1)
        class sums:
            def create(self):
                return 0

            def add(self, state, n):
                import time

                time.sleep(0.4)
                return state + sum(n.to_pylist())

            def merge(self, state, other):
                return state + other

            def result(self, state):
                return state

        table = t.agg(s=sums("n"))
    elif kind == "map_groups":

        @al.map_groups("n bigint", workers=1)
        def by_group(table):
            import time

            time.sleep(0.2)
            return table.select(["n"])

        table = t.with_columns(g="n % 2").group_by("g").map_groups(by_group)
    else:

        def fitted(batches):
            import time

            time.sleep(0.4)
            return sum(batch.num_rows for batch in batches)

        assert t.fit(fitted)
        return
    assert profiled(table, name, tmp_path).python_s >= 0.39


def test_imports_are_told_by_package(ctx, tmp_path, monkeypatch):
    (tmp_path / "slow_helper.py").write_text("import time\nimport slow_part\ntime.sleep(0.3)\n")
    (tmp_path / "slow_part.py").write_text("import time\ntime.sleep(0.2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    import slow_helper  # pyright: ignore[reportMissingImports]

    @al.udf("bigint", workers=1)
    def helped(n: int) -> int:
        assert slow_helper
        return n

    table = numbers(ctx, 10).select(n=helped("n"))
    o = profiled(table, "helped", tmp_path)
    assert o.load_s > 0.5
    assert 0.3 <= o.imports["slow_helper"] < 0.5
    assert 0.2 <= o.imports["slow_part"] < 0.3
    assert o.workers_started == 1
    again = profiled(numbers(ctx, 11).select(n=helped("n")), "helped", tmp_path)
    assert again.imports == {}
    assert again.workers_started == 0


def stacks(path) -> dict[str, int]:
    """Read collapsed stacks."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {stack: int(us) for stack, _, us in (line.rpartition(" ") for line in lines)}


def test_a_profile_shows_what_functions_do(shared_ctx, tmp_path):
    def inner(seconds):
        import time

        time.sleep(seconds)

    @al.udf("bigint", workers=2)
    def outer(n: int) -> int:
        inner(0.02)
        return n

    @al.udf("bigint", batch="numpy", workers=2)
    def whole(n):
        inner(0.3)
        return n

    @al.map_batches("n bigint", memory="512MiB")
    def other(batch):
        inner(0.3)
        yield batch

    t = numbers(shared_ctx, 60)
    with shared_ctx.profile(tmp_path / "p.txt"):
        t.with_columns(x=outer("n")).with_columns(y=whole("x")).to_arrow()
        t.map_batches(other).to_arrow()
    shared_ctx.read_generator({"n": al.generate.sequence()}, rows=5).select(n=outer("n")).collect()
    found = stacks(tmp_path / "p.txt")
    by_function: dict[str, int] = {}
    for stack, us in found.items():
        function, *frames = stack.split(";")
        by_function[function] = by_function.get(function, 0) + us
        assert not any("_worker" in frame for frame in frames), stack
    assert by_function.keys() == {"outer", "whole", "other"}
    assert by_function["outer"] == pytest.approx(60 * 20_000, rel=0.3)
    assert by_function["whole"] >= 200_000
    assert by_function["other"] >= 200_000
    deepest = max(found, key=lambda stack: stack.count(";"))
    assert "inner (" in deepest.split(";")[-1]
    assert "test_profile.py:" in deepest
    with shared_ctx.profile(tmp_path / "none.svg"):
        pass
    assert "0.00 s" in (tmp_path / "none.svg").read_text(encoding="utf-8")


def test_a_profile_lives_through_the_death_of_a_worker(shared_ctx, tmp_path):
    @al.udf("bigint", workers=1, batch_rows=10, mounts={tmp_path: "rw"})
    def dies_once(n: int) -> int:
        import os
        import time
        from pathlib import Path

        time.sleep(0.01)
        mark = Path(os.fspath(folder)) / "died"
        if n == 40 and not mark.exists():
            mark.touch()
            os._exit(3)
        return n

    folder = str(tmp_path)
    with shared_ctx.profile(tmp_path / "p.folded"):
        numbers(shared_ctx, 60).select(n=dies_once("n")).to_arrow()
    assert sum(stacks(tmp_path / "p.folded").values()) >= 300_000


def test_a_flame_graph_is_xml_by_itself(tmp_path):
    from alink._flame import flame_graph

    text = flame_graph(
        {"f;<lambda> (a&b.py:1);g\x00 (c.py:2)": 3_000_000, "f;h (d.py:3)": 1_000_000}
    )
    tree = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text for title in tree.iter(f"{space}title")]
    assert titles[0] == "Python functions, 4.00 s"
    assert "f: 4.000 s, 100.0 %" in titles
    assert "<lambda> (a&b.py:1): 3.000 s, 75.0 %" in titles
    assert "g\ufffd (c.py:2): 3.000 s, 75.0 %" in titles
    frames = {t.text: box for box in tree.iter(f"{space}g") for t in box.findall(f"{space}title")}
    rect = {name: next(box.iter(f"{space}rect")).attrib for name, box in frames.items()}
    f, h = rect["f: 4.000 s, 100.0 %"], rect["h (d.py:3): 1.000 s, 25.0 %"]
    assert float(h["width"]) == pytest.approx(float(f["width"]) / 4, abs=1)
    assert float(h["y"]) == float(f["y"]) - 18


def test_a_profile_refuses_other_files_and_a_second_one(shared_ctx, tmp_path):
    with pytest.raises(al.PlanError, match=r"not as 'flame\.png'"):
        shared_ctx.profile(tmp_path / "flame.png")
    with (
        shared_ctx.profile(tmp_path / "a.svg"),
        pytest.raises(al.PlanError, match="made already"),
        shared_ctx.profile(tmp_path / "b.svg"),
    ):
        pass
    assert (tmp_path / "a.svg").exists()
    assert not (tmp_path / "b.svg").exists()
