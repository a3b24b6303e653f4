"""What distance is to a clustering: between vectors, their directions, or places on the Earth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ._nearest import Array, Block, Dense, Labels, Sparse
from ._strings import Unreadable
from ._vectors import Vectors

#: Of the Earth, in kilometres.
RADIUS_KM = 6371.0


class Space:
    """Euclidean distance.

    Attributes
    ----------
    name : str
        Alink's, of the parameter ``distanceType``.
    centred : bool
        Whether points may be moved: distances stay the same.
    straight : bool
        Whether centres are points themselves, and sums of points make centres.
    """

    name = "EUCLIDEAN"
    centred = True
    straight = True

    def dense(self, rows: Array, origin: Array | None = None) -> Block:
        """Make a block of dense rows, which have their zero at an origin if they are `centred`."""
        return Dense(rows, origin)

    def sparse(self, vectors: Vectors, size: int) -> Block:
        """Make a block of sparse vectors."""
        return Sparse(vectors, size)

    def places(self, centres: Array) -> Array:
        """Give the points that blocks are compared with for centres."""
        return centres

    def apart(self, row: Array, places: Array) -> Array:
        """Give the squared distances of a row from the points of centres."""
        apart = places - self.places(row[None])
        return np.einsum("ij,ij->i", apart, apart)

    def sweep(self, block: Block, centres: Array) -> tuple[Array, Array]:
        """Give sums and numbers of the points nearest to each centre."""
        return block.sweep(self.places(centres))

    def settled(self, sums: Array, counts: Array, before: Array) -> Array:
        """Give the centres of sums of points; one without points stays where it was."""
        some = np.maximum(counts, 1)[:, None]
        return np.where(counts[:, None] > 0, sums / some, before)

    def distances(self, squares: Array) -> Array:
        """Give distances of the squared ones of points."""
        return np.sqrt(squares)

    def moved(self, before: Array, after: Array) -> float:
        """Tell how far centres have moved, the one that has moved most."""
        steps = ((self.places(after) - self.places(before)) ** 2).sum(axis=1)
        return float(self.distances(steps).max(initial=0.0))


class Cosine(Space):
    """One less the cosine of the angle between vectors; a vector of zeros is 1 from all centres.

    Vectors are scaled to length 1, and so are centres (Dhillon and Modha, Concept decompositions
    for large sparse text data using clustering, 2001): half the squared distance is then this one.
    """

    name = "COSINE"
    centred = False

    def dense(self, rows: Array, origin: Array | None = None) -> Block:
        """Make a block of dense rows."""
        del origin
        return Dense(to_unit(rows), squares=np.ones(len(rows)))

    def sparse(self, vectors: Vectors, size: int) -> Block:
        """Make a block of sparse vectors."""
        squares = np.bincount(vectors.rows_of_values, vectors.values**2, len(vectors))
        lengths = np.sqrt(squares)
        scale = np.where(lengths > 0, lengths, 1.0)[vectors.rows_of_values]
        scaled = Vectors(
            vectors.offsets, vectors.values / scale, vectors.indices, vectors.sizes, vectors.dense
        )
        return Sparse(scaled, size, np.ones(len(scaled)))

    def places(self, centres: Array) -> Array:
        """Give the points that blocks are compared with for centres."""
        return to_unit(centres)

    def apart(self, row: Array, places: Array) -> Array:
        """Give the squared distances of a row from the points of centres."""
        return super().apart(row, places) if row.any() else np.full(len(places), 2.0)

    def settled(self, sums: Array, counts: Array, before: Array) -> Array:
        """Give the centres of sums of points; one whose points point nowhere stays."""
        kept = (counts > 0) & (np.abs(sums).max(axis=1, initial=0.0) > 0)
        return np.where(kept[:, None], to_unit(sums), before)

    def distances(self, squares: Array) -> Array:
        """Give distances of the squared ones of points."""
        return squares / 2


def to_unit(rows: Array) -> Array:
    """Scale rows to length 1; one of zeros stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return rows / np.where(lengths > 0, lengths, 1.0)[:, None]


class Haversine(Space):
    """Kilometres on the Earth between latitudes and longitudes in degrees.

    Points are those of the unit sphere; the nearest by the straight line is the nearest by the
    great circle. A centre has the mean latitude of its points, and the mean of their longitudes
    as differences from that of the centre before, so that clusters may lie across the 180th
    meridian.
    """

    name = "HAVERSINE"
    centred = False
    straight = False

    def dense(self, rows: Array, origin: Array | None = None) -> Block:
        """Make a block of rows of latitude and longitude."""
        del origin
        return Places(rows)

    def sparse(self, vectors: Vectors, size: int) -> Block:
        """Make a block of sparse vectors."""
        return Places(vectors.matrix(size))

    def places(self, centres: Array) -> Array:
        """Give the points that blocks are compared with for centres."""
        return on_sphere(centres)

    def sweep(self, block: Block, centres: Array) -> tuple[Array, Array]:
        """Give sums and numbers of the points nearest to each centre."""
        assert isinstance(block, Places)
        return block.sums_from(block.nearest(self.places(centres))[0], centres)

    def settled(self, sums: Array, counts: Array, before: Array) -> Array:
        """Give the centres of sums of points; longitudes are from −180 up to 180."""
        means = super().settled(sums, counts, before)
        far = np.abs(means[:, 1]) > 180
        means[far, 1] = _wrapped(means[far, 1])
        return means

    def distances(self, squares: Array) -> Array:
        """Give distances of the squared ones of points."""
        half = np.sqrt(squares) / 2
        return 2 * RADIUS_KM * np.arcsin(np.minimum(half, 1.0))


def on_sphere(degrees: Array) -> Array:
    """Give the points of the unit sphere of latitudes and longitudes in degrees.

    Raises
    ------
    Unreadable
        If there are not two numbers to a row, or a latitude is beyond a pole.
    """
    if degrees.shape[1] != 2:
        raise Unreadable(f"{degrees.shape[1]} numbers are no latitude and longitude")
    beyond = np.abs(degrees[:, 0]) > 90
    if beyond.any():
        raise Unreadable(
            f"latitude {degrees[beyond, 0][0]:g} is beyond 90 degrees: are latitude and "
            "longitude exchanged?"
        )
    latitude, longitude = np.radians(degrees).T
    flat = np.cos(latitude)
    return np.column_stack((flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)))


def _wrapped(degrees: Array) -> Array:
    return (degrees + 180) % 360 - 180


class Places(Dense):
    """Places on the Earth, whose sums are of latitudes and longitudes."""

    def __init__(self, degrees: Array) -> None:
        super().__init__(on_sphere(degrees))
        self._degrees = degrees

    def rows(self, which: npt.NDArray[np.int64]) -> Array:
        """Give some of the places, in degrees."""
        return self._degrees[which]

    def sums_from(self, labels: Labels, centres: Array) -> tuple[Array, Array]:
        """Add up places by their centres, longitudes as those nearest to the centre's."""
        count = len(centres)
        counts = np.bincount(labels, minlength=count).astype(np.float64)
        base = centres[labels, 1]
        around = base + _wrapped(self._degrees[:, 1] - base)
        sums = np.empty((count, 2))
        sums[:, 0] = np.bincount(labels, self._degrees[:, 0], count)
        sums[:, 1] = np.bincount(labels, around, count)
        return sums, counts


SPACES: dict[str, Space] = {space.name: space for space in (Space(), Cosine(), Haversine())}
