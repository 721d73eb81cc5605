"""Codecs of what ranks send: one file each; this is their registry, the only place that knows their names.

They know nothing of MPI: a strategy hands them a range of the flat vector and sends the bytes that they fill.  What is
lost by rounding, choosing or projecting is not dropped but kept by `onotrain.strategies.codecs.feedback`, and sent
later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onotrain.strategies.codecs.base import Codec, Compressor, publish
from onotrain.strategies.codecs.feedback import Feedback, SummedFeedback, with_feedback
from onotrain.strategies.codecs.half import BFloat16, Float16
from onotrain.strategies.codecs.int8 import Int8
from onotrain.strategies.codecs.none import Plain
from onotrain.strategies.codecs.partial import but_averaged
from onotrain.strategies.codecs.powersgd import PowerSGD
from onotrain.strategies.codecs.topk import TopK
from onotrain.strategies.codecs.vector_range import Part

__all__ = [
    "CODECS", "BFloat16", "Codec", "Compressor", "Feedback", "Float16", "Int8", "Part", "Plain", "PowerSGD",
    "SummedFeedback", "TopK", "build", "publish", "with_feedback", "without_feedback",
]  # fmt: skip

#: The codec of a range, by its name in the configuration; the options are ``fraction`` of topk, ``rank`` of powersgd.
CODECS: dict[str, Callable[[Part, Any, int], Codec]] = {
    "none": lambda part, options, seed: Plain(part),
    "fp16": lambda part, options, seed: but_averaged(part, Float16),
    "bf16": lambda part, options, seed: but_averaged(part, BFloat16),
    "int8": lambda part, options, seed: but_averaged(part, Int8),
    "topk": lambda part, options, seed: but_averaged(part, lambda coded: TopK(coded, options.fraction)),
    "powersgd": lambda part, options, seed: PowerSGD(part, options.rank, seed),
}


def build(options: Any, part: Part, seed: int) -> Feedback:
    """Return the codec that the configuration names, with error feedback.

    A range that it would not make any smaller is sent as it is, and so are averaged tensors.

    Parameters
    ----------
    options
        Its ``name``, and its numbers.
    part
        The range that each message holds.
    seed
        Of the run: the same on all ranks.
    """
    return with_feedback(without_feedback(options, part, seed))


def without_feedback(options: Any, part: Part, seed: int) -> Codec:
    """Return the same by itself, for values of which nothing is lost that a message leaves out."""
    codec = CODECS[options.name](part, options, seed)
    return codec if codec.nbytes < codec.raw_bytes else Plain(part)
