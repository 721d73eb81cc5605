"""Metrics of a model on a data set, as sums that any number of ranks may share."""
