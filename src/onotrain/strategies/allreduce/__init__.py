"""Synchronous data parallelism: ranks of a node share memory, nodes exchange one gradient each."""
