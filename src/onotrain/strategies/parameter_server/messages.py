"""Headers of what workers and servers send each other."""

from __future__ import annotations

import numpy as np

from onotrain.strategies.statistics import STATISTICS

#: A worker's to each server; the vector is its gradient or delta, or a codec's message of it.
PUSH = np.dtype(
    [
        #: Number of the batch, counted from 1; where a push is of several batches, of the push.
        ("batch", np.int64),
        #: Of the update that this push is by itself.
        ("learning_rate", np.float64),
        ("statistics", STATISTICS),
        #: Whether a synchronisation point follows, which replaces the reply.
        ("synchronizes", np.bool_),
    ],
    align=True,
)
#: A server's to a worker; the vector is a range of the parameters, or a codec's message of its delta.
REPLY = np.dtype(
    [
        #: The batch after which all come to rest, as rank 0 has named it; 0 while there is none.
        ("stop_batch", np.int64),
        #: How long the server kept the push waiting [s].
        ("parked_seconds", np.float64),
        #: From when the server found the push until its simulated link has carried the reply [s]; 0 without one.
        ("link_seconds", np.float64),
    ]
)
#: What servers share of a batch; float64 alone, to be summed.
FINDINGS = np.dtype([(name, np.float64) for name in ("gradient_squares", "stop_requests", "divergences", "stop_batch")])
