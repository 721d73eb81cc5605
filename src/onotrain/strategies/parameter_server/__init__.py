"""Parameter server: some ranks hold and update the parameters, the others compute gradients.

Ranks ``0..k-1`` are servers, each of one range of the flat vector and of the optimiser's state that belongs to it, and
compute no rows; the others are workers, and cut every global batch among themselves.  One batch::

    worker                                    each server
    g = gradient of its slice
    push g[range], statistics            ----->    staleness 0: when all have pushed, one update with the sum of g
                                              else: one update with each g, as it comes, at a
                                                    rate that goes with its share of the rows
    w[range] = reply                <-----    w[range], unless the worker is too far ahead: then later

All ranks call `step` for every batch.  A server's returns when every worker has pushed the batch, so servers follow the
slowest worker and the others are ahead of them.  At a synchronisation point all have pushed the same batch, nothing is
in flight, and everybody gets all parameters.  The trainer asks for one (`synchronize`), which workers know beforehand,
so that it replaces the reply; or rank 0 names a stop batch (`drain`).

With equal slices a fast worker is soon ahead as far as it may be, or waits at the end of the epoch.  Where slices
follow throughput, fast and slow ones need the same time for a batch.  Workers exchange their throughput at
synchronisation points alone, so that all cut a batch in the same way however far ahead they are; there are some more of
them in the beginning.

With `overlap`, a worker computes its next batch while its push and the reply are in flight, with parameters that do not
know of that push: it waits for the reply to a push before the next one, and may be ahead of the slowest by a step less
when it is answered.

With `push_every` above 1, a worker makes updates of its own, with an optimiser's state of its own, and pushes what
several of them have changed together::

    worker                                    each server
    k times: g = gradient of its slice,
             w = rule(w, g)
    push p (start - w)[range]        ----->    w -= push: all of a period at once with staleness 0, else as it comes
    start = w = reply                <-----    w[range]

where p is its share of the samples, so that all pushes of a period together move servers to the mean of the workers.
Pushes are numbered then, not batches: a *batch* in what follows, such as the stop batch, is all that a push is of.  The
steps after a push are made with overlap from where the worker is, and moved to the reply when it is there.  At a
synchronisation point the workers' states become their mean.

Workers on a server's node leave their gradients in memory that the server reads; headers alone are sent.  With a codec,
pushes of other workers are its messages, with error feedback, and all replies are (`replies`).

Pushes and replies are whole: a server changes nothing that is being sent.  Updates without locks (Hogwild) would tear
them, and are not offered, for no optimiser with a state is correct under them.

=================  ==================================================================
`roles`            who serves what, who computes, who shares a node
`participant`      what servers and workers have in common
`synchronization`  where all ranks come to rest
`messages`         headers of pushes and replies
`worker`           a worker's step
`local_worker`     the same where workers make updates of their own
`push_period`      after which steps workers push
`push_pull`        a worker's side of the messages
`server`           a server's step, composed of what follows
`message_pump`     a server's side of the messages
`replies`          what replies hold: parameters, or a codec's message of their delta
`ledger`           how far each worker is, and how stale its gradients are
`pending`          statistics of batches that not all workers have pushed
`drain`            how a stop request or a number that is not finite ends the run
`shard`            a server's range of the parameters, and its updates
`delta_shard`      the same where workers make updates of their own
`compensation`     what is done about stale gradients
`replica`          parameters and state, as checkpoints see them
=================  ==================================================================
"""
