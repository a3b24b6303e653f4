"""Find out which airlines' flights from New York are late, and foresee it.

The 336,776 flights that left New York in 2013 (US Bureau of Transportation Statistics; see
data/README.md) are joined with the airlines' names and the hourly weather at the airport they
left from. Two Python functions add features, each with packages of its own: the one about
holidays runs with numpy 2.2, the one about wind with an older numpy that cannot be installed
beside it. A model is trained in a third environment and applied to every flight.

    python examples/flight_delays.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

import alink as al

if TYPE_CHECKING:
    import datetime

    import numpy as np

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
SCORED = HERE / "out" / "scored_flights.parquet"

LATE_MINUTES = 15  # a flight counts as late from here on, as the Bureau counts
FEATURES = (
    "hour",
    "month",
    "weekday",
    "distance",
    "near_holiday",
    "crosswind",
    "wind_speed",
    "precip",
    "visib",
)

OLD_NUMPY = "2.1.3"

CALENDAR = al.Environment(requirements=["holidays==0.80", "numpy==2.2.*"])
WIND = al.Environment(requirements=[f"numpy=={OLD_NUMPY}"])
LEARNING = al.Environment(requirements=["scikit-learn==1.7.2", "numpy==2.2.*"])


@al.udf("boolean", env=CALENDAR)
class NearHoliday:
    """Whether a day is a US holiday, or the day before or after one."""

    def setup(self) -> None:
        """Make the calendar, once for each worker."""
        import datetime

        import holidays  # pyright: ignore[reportMissingImports]
        import numpy as np

        assert np.__version__.startswith("2.2."), np.__version__
        self.calendar = holidays.country_holidays("US")
        self.day = datetime.timedelta(days=1)

    def __call__(self, date: datetime.date) -> bool:
        """Look a day up."""
        return any(d in self.calendar for d in (date, date - self.day, date + self.day))


@al.udf("double", env=WIND, batch="numpy")
def crosswind(origin: np.ndarray, wind_dir: np.ndarray, wind_speed: np.ndarray) -> np.ndarray:
    """Wind across the better runway, in the unit of `wind_speed`; NULL where it is unknown."""
    import numpy as np

    assert np.__version__ == OLD_NUMPY, np.__version__
    # True headings of the runways in degrees, rounded.
    runways = {"EWR": (26, 95), "LGA": (31, 121), "JFK": (31, 121)}
    headings = np.array([runways[airport] for airport in origin.tolist()], dtype=float)
    angles = np.radians(wind_dir[:, np.newaxis] - headings.reshape(-1, 2))
    return wind_speed * np.abs(np.sin(angles)).min(axis=1)


def train(batches: Iterator[pa.RecordBatch]) -> Any:
    """Train a model that tells how likely a flight is late."""
    import numpy as np
    import pyarrow as pa
    from sklearn.ensemble import (  # pyright: ignore[reportMissingImports]
        HistGradientBoostingClassifier,
    )

    table = pa.Table.from_batches(batches)
    features = np.column_stack([table.column(name).to_numpy() for name in FEATURES])
    model = HistGradientBoostingClassifier(
        max_iter=30, learning_rate=0.2, early_stopping=False, random_state=0
    )
    return model.fit(features, table.column("late").to_numpy())


def flights_with_features(ctx: al.Context) -> al.Table:
    """Join flights, airlines and weather, and add what the model looks at."""
    airlines = ctx.read_parquet(DATA / "airlines.parquet").rename({"name": "airline"})
    weather = ctx.read_parquet(
        DATA / "weather.parquet",
        columns=["origin", "time_hour", "wind_dir", "wind_speed", "precip", "visib"],
    )
    return (
        ctx.read_parquet(DATA / "flights.parquet")
        .join(airlines, on="carrier")
        .join(weather, on=["origin", "time_hour"], how="left")
        .with_columns(date="make_date(year, month, day)")
        .with_columns(
            weekday="isodow(date)",
            near_holiday=NearHoliday("date"),
            crosswind=crosswind("origin", "wind_dir", "wind_speed"),
        )
    )


def train_model(flights: al.Table) -> al.Model:
    """Train on the flights that arrived."""
    as_numbers: dict[str, Any] = {name: al.col(name).cast("double") for name in FEATURES}
    examples = (
        flights.filter("arr_delay IS NOT NULL")
        # In a fixed order, so that every run gives the same model.
        .order_by("time_hour", "carrier", "flight", "origin")
        .select(late=al.col("arr_delay") > LATE_MINUTES, **as_numbers)
    )
    return examples.fit(train, env=LEARNING)


def score_flights(flights: al.Table, model: al.Model) -> al.Table:
    """Add the probability of being late to every flight."""

    @al.udf("double", env=LEARNING, batch="numpy", models={"model": model})
    def late_probability(*features: np.ndarray, model: Any) -> np.ndarray:
        import numpy as np

        # NULLs come as masked arrays; the model takes NaN for what is not known.
        columns = [np.ma.filled(np.ma.asarray(f, dtype=float), np.nan) for f in features]
        return model.predict_proba(np.column_stack(columns))[:, 1]

    arguments = [al.col(name).cast("double") for name in FEATURES]
    return flights.with_columns(late_probability=late_probability(*arguments))


def carrier_table(ctx: al.Context, scored: Path = SCORED) -> pa.Table:
    """Run the whole job; write the scored flights and give a row for each airline."""
    flights = flights_with_features(ctx)
    model = train_model(flights)
    scored.parent.mkdir(parents=True, exist_ok=True)
    score_flights(flights, model).write_parquet(scored, mode="overwrite")
    return by_carrier(ctx, scored).to_arrow()


def by_carrier(ctx: al.Context, scored: Path = SCORED) -> al.Table:
    """Sum up the scored flights for each airline, the latest first."""
    return (
        ctx.read_parquet(scored)
        .group_by("carrier", "airline")
        .agg(
            flights="count(*)",
            mean_delay="avg(arr_delay)",
            late=f"avg((arr_delay > {LATE_MINUTES})::double)",
            late_predicted="avg(late_probability)",
            near_holiday="avg(near_holiday::double)",
        )
        .order_by("late DESC")
    )


def main() -> None:
    """Run the job and print its table."""
    with al.connect() as ctx:
        table = carrier_table(ctx)
        ctx.from_arrow(table).show()
        print(f"scored flights: {SCORED}")


if __name__ == "__main__":
    main()
