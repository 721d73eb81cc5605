"""Partitions: each rank trains on samples of its own.

A partition is another order of the samples of an epoch.  A strategy gives each rank a slice of every batch, and so some
positions of the epoch; a rank's *pool* has as many samples, and stands at these positions in each epoch, permuted anew.
So every sample is seen once in an epoch, and by the same rank in all of them.

``by_rank`` deals the samples out at random.  ``by_label`` gives each rank classes in proportions of its own, drawn from
a Dirichlet distribution whose mean are the proportions ``p`` of the whole data (Hsu et al., arXiv 1909.06335)::

    q_r ~ Dirichlet(alpha C p)      C classes that occur; all equally often: the symmetric Dirichlet(alpha)

All ranks take samples at the same pace, in these proportions, until their pools are full; when the samples of a class
are used up, all go on in the proportions of the classes that are left.  (Hsu et al. let one rank after the other take
its samples, so that the last ones get what is left.)  What each rank takes of each class is then rounded so that pools
and classes have their sizes, and dealt out at random within the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onotrain._kernels import Kernels
from onotrain.data.split import largest_remainders
from onotrain.seeds import key

#: Samples that are looked at at a time.
_BLOCK = 1 << 16


def pool_by_rank(number: int, sizes: Sequence[int], seed: int, kernels: Kernels) -> np.ndarray:
    """Return the samples of a pool, drawn at random from ``range(sum(sizes))``.

    Parameters
    ----------
    number
        Of the pool.
    sizes
        Of all pools.
    seed
        Of the draw.
    kernels
        Kernels of any dtype.

    Returns
    -------
    ndarray
        int64 ``(sizes[number],)``; pools are disjoint, and together all samples.
    """
    pool = np.empty(sizes[number], np.int64)
    kernels.shuffle_positions(sum(sizes[:number]), sum(sizes), key(seed, "partition"), pool)
    return pool


def pool_by_label(
    number: int, counts: np.ndarray, classes: Callable[[np.ndarray], np.ndarray], seed: int, kernels: Kernels
) -> np.ndarray:
    """Return the samples of a pool, `counts` of each class, drawn at random; in blocks, for there may be very many.

    Parameters
    ----------
    number
        Of the pool.
    counts
        int64 ``(pools, classes)``, how many samples of each class are in each.
    classes
        Numbers of samples, int64 ``(k,)`` -> their classes, integers ``(k,)``.
    seed, kernels
        As for `pool_by_rank`.

    Returns
    -------
    ndarray
        int64 ``(counts[number].sum(),)``; pools are disjoint, and together all samples.
    """
    n, width = int(counts.sum()), counts.shape[1]
    first, end = counts[:number].sum(axis=0), counts[: number + 1].sum(axis=0)
    seen = np.zeros(width, np.int64)
    pool, filled = np.empty(int(counts[number].sum()), np.int64), 0
    for begin in range(0, n, _BLOCK):
        samples = np.empty(min(_BLOCK, n - begin), np.int64)
        kernels.shuffle_positions(begin, n, key(seed, "partition"), samples)
        labels = classes(samples)
        sizes = np.bincount(labels, minlength=width)
        # How many of its class come before each sample: in this block, and in those before.
        earlier = np.empty(len(samples), np.int64)
        order = np.argsort(labels, kind="stable")
        earlier[order] = np.arange(len(samples)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        earlier += seen[labels]
        own = samples[(first[labels] <= earlier) & (earlier < end[labels])]
        pool[filled : filled + len(own)] = own
        filled += len(own)
        seen += sizes
    return pool


def label_counts(class_sizes: np.ndarray, sizes: Sequence[int], alpha: float, seed: int) -> np.ndarray:
    """Return how many samples of each class are in each pool; see the module's text.

    Machines may round differently: compute it once, and tell all ranks.

    Parameters
    ----------
    class_sizes
        int64 ``(classes,)``, samples of each class.
    sizes
        Of the pools; together all samples.
    alpha
        Concentration: the less, the fewer classes a pool has.
    seed
        Of the draw.

    Returns
    -------
    ndarray
        int64 ``(pools, classes)``; sums of rows and columns are `sizes` and `class_sizes`.
    """
    occur = np.flatnonzero(class_sizes)
    shares = log_shares(alpha * len(occur) * class_sizes[occur] / class_sizes.sum(), len(sizes), seed)
    wanted = _fill(shares, np.array(sizes, float), class_sizes[occur].astype(float))
    counts = np.zeros((len(sizes), len(class_sizes)), np.int64)
    left = class_sizes[occur].astype(np.int64)
    # What a class was rounded by in one pool is made up for in the next; the last one gets all that is left.
    owed = np.zeros(len(occur))
    for number, size in enumerate(sizes):
        owed += wanted[number]
        taken = largest_remainders(owed, size, np.zeros_like(left), left)
        counts[number, occur] = taken
        owed -= taken
        left -= taken
    return counts


def log_shares(concentrations: np.ndarray, pools: int, seed: int) -> np.ndarray:
    """Return logarithms of ``(pools, classes)`` draws of a Dirichlet distribution, up to a constant for each pool.

    ``Gamma(a)`` is ``Gamma(a + 1) U^(1 / a)``, whose logarithm does not underflow however small a is.
    """
    # Of NumPy's distributions, only those of RandomState are promised never to change.
    draw = np.random.RandomState(np.random.Philox(key(seed, "partition", "shares")))
    shape = (pools, len(concentrations))
    gamma = draw.standard_gamma(concentrations + 1.0, shape)
    return np.log(gamma) + np.log1p(-draw.random_sample(shape)) / concentrations


def _fill(shares: np.ndarray, capacity: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Return what pools with so much `capacity` take of classes of which there is so much `left`, ``(pools, classes)``.

    `shares` are logarithms.  Each turn ends with a class used up, or with all pools full.
    """
    taken = np.zeros(shares.shape)
    open_classes = np.ones(len(left), bool)
    for _ in range(len(left)):
        chosen = np.where(open_classes, shares, -np.inf)
        pace = np.exp(chosen - chosen.max(axis=1, keepdims=True))
        pace *= (capacity / pace.sum(axis=1))[:, np.newaxis]
        demand = pace.sum(axis=0)
        lasts = np.divide(left, demand, out=np.full(len(left), np.inf), where=demand > 0.0)
        scarcest = int(np.argmin(lasts))
        time = min(1.0, float(lasts[scarcest]))
        taken += time * pace
        left = np.maximum(left - time * demand, 0.0)
        capacity = capacity * (1.0 - time)
        open_classes[scarcest] = False
    return taken
