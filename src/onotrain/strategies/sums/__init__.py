"""Sums over ranks, plain or of a codec's messages."""
