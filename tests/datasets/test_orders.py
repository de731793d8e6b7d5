"""Examples come once an epoch, in an order that follows from the seeds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eightbit.datasets.orders import EpochOrder


@given(st.integers(1, 30), st.integers(0, 5), st.integers(1, 12))
def test_each_epoch_holds_every_example_once(count, seed, size):
    order = EpochOrder(count, seed, 3)
    # Batches of any size, which need not end where epochs do.
    found = np.concatenate([order(np.arange(i, i + size)) for i in range(0, 3 * count, size)])
    for epoch in found[: 3 * count].reshape(3, count):
        assert sorted(epoch.tolist()) == list(range(count))
    wanted = np.random.default_rng([seed, 3, 1]).permutation(count)
    assert found[count : 2 * count].tolist() == wanted.tolist()
