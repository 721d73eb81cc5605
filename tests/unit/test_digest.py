"""SHA-256 in pieces."""

from __future__ import annotations

import hashlib

import pytest

from onotrain.runs.digest import sha256


@pytest.mark.parametrize("sizes", [[], [0], [1], [128 << 10], [(128 << 10) + 1, 0, 5], [1_000_003, 300_000]])
def test_pieces_give_the_digest_of_the_whole(sizes: list[int]) -> None:
    buffers = [bytes(range(256)) * (size // 256 + 1) for size in sizes]
    buffers = [buffer[:size] for buffer, size in zip(buffers, sizes, strict=True)]
    pauses: list[None] = []
    digest = sha256(map(memoryview, buffers), lambda: pauses.append(None))
    assert digest.hexdigest() == hashlib.sha256(b"".join(buffers)).hexdigest()
    assert len(pauses) == sum(-(-size // (128 << 10)) for size in sizes)
