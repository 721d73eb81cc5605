"""A cluster that need not exist: how long computing and messages take on it.

``machine`` has nodes, links and speeds; ``costs`` what one rank needs to compute; ``epoch`` what an epoch comes to;
the discrete events of servers whose workers do not wait for each other are a kernel, `onotrain._kernels.pushes`.  What
a strategy makes of them is the strategy's own business: `onotrain.strategies.base.Strategy.timing`.
"""
