"""Prior boxes by k-means, and the exact matching of objects to predictions."""

from __future__ import annotations

import numpy as np

from ...errors import DataError


def cluster(points: np.ndarray, count: int, seed: int, rounds: int = 50) -> np.ndarray:
    """K-means with the seeding of Arthur and Vassilvitskii 2007 (k-means++).

    Args:
        points: float (N, D).
        count: clusters.
        seed: of the first centres.
        rounds: the most steps of Lloyd's algorithm; it stops earlier where nothing changes.

    Returns:
        float32 (count, D), the centres, in order of their coordinates.

    Raises:
        DataError: there are fewer different points than clusters.
    """
    points = np.asarray(points, dtype=np.float64)
    different = len(np.unique(points, axis=0))
    if different < count:
        raise DataError(
            f"{count} prior boxes need as many different boxes in the training data, and there "
            f"are {different}; give more data or ask for fewer boxes."
        )
    rng = np.random.default_rng(seed)
    centres = _spread_centres(points, count, rng)
    owner = np.full(len(points), -1)
    for _ in range(rounds):
        distance = _squared_distances(points, centres)
        nearest = distance.argmin(1)
        if (nearest == owner).all():
            break
        owner = nearest
        sizes = np.bincount(owner, minlength=count)
        for axis in range(points.shape[1]):
            sums = np.bincount(owner, weights=points[:, axis], minlength=count)
            centres[:, axis] = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres[:, axis])
    return centres[np.lexsort(centres.T[::-1])].astype(np.float32)


def _spread_centres(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """First centres: points drawn in proportion to the squared distance to those before."""
    chosen = [points[rng.integers(len(points))]]
    distance = ((points - chosen[0]) ** 2).sum(1)
    while len(chosen) < count:
        chosen.append(points[rng.choice(len(points), p=distance / distance.sum())])
        distance = np.minimum(distance, ((points - chosen[-1]) ** 2).sum(1))
    return np.array(chosen)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None]
    return squares - 2 * a @ b.T


def match(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matches rows to columns one to one at the least total cost.

    The shortest augmenting paths of Jonker and Volgenant 1987, one row after another.

    Args:
        cost: float (R, C), finite.

    Returns:
        rows, columns: int64 (min(R, C),), the pairs, rows ascending.
    """
    if cost.shape[0] > cost.shape[1]:
        columns, rows = match(cost.T)
        order = rows.argsort()
        return rows[order], columns[order]
    count, width = cost.shape
    row_price = np.zeros(count)
    price = np.zeros(width)
    owner = np.full(width, -1)
    for start in range(count):
        shortest = np.full(width, np.inf)
        before = np.full(width, -1)
        done = np.zeros(width, dtype=bool)
        row, column, lowest = start, -1, 0.0
        while True:  # Dijkstra over the columns until a free one is reached
            through = lowest + cost[row] - row_price[row] - price
            better = ~done & (through < shortest)
            shortest[better] = through[better]
            before[better] = column
            column = int(np.where(done, np.inf, shortest).argmin())
            lowest = shortest[column]
            done[column] = True
            if owner[column] < 0:
                break
            row = owner[column]
        row_price[start] += lowest
        seen = np.flatnonzero(done)
        seen = seen[seen != column]
        row_price[owner[seen]] += lowest - shortest[seen]
        price[seen] -= lowest - shortest[seen]
        while column >= 0:  # turn the path around
            previous = before[column]
            owner[column] = start if previous < 0 else owner[previous]
            column = previous
    columns = np.flatnonzero(owner >= 0)
    order = owner[columns].argsort()
    return owner[columns][order], columns[order]
