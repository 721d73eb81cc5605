"""Section ``communication``: the encoding of what ranks send each other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onotrain.config.base import Count, Section
from onotrain.config.choices import OneOf


class NoCodec(Section):
    """Numbers in the network's precision."""

    name: Literal["none"] = Field("none", description="Messages hold the numbers in the network's precision.")


class HalfCodec(Section):
    """Half precision."""

    name: Literal["fp16", "bf16"] = Field(
        description="Two bytes per number: `fp16` has 11 significant bits and one scale per message, `bf16` has 8 bits."
    )


class Int8Codec(Section):
    """One byte per number."""

    name: Literal["int8"] = Field(description="One byte per number, and one scale per 256 numbers.")


class TopKCodec(Section):
    """The largest numbers only."""

    name: Literal["topk"] = Field(
        description="Only the largest numbers, with their positions: 8 bytes per sent number with float32."
    )
    fraction: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.01, description="Fraction of the numbers that is sent; with 0.5 a message would be as large as without codec."
    )


class PowerSgdCodec(Section):
    """Matrices of low rank."""

    name: Literal["powersgd"] = Field(
        description="Low-rank factors of each weight matrix (Vogels et al., arXiv 1905.13727); biases are not encoded."
    )
    rank: Count = Field(4, description="Rank of the factors; a higher rank costs more bytes and loses less accuracy.")


Codec = Annotated[NoCodec | HalfCodec | Int8Codec | TopKCodec | PowerSgdCodec, OneOf("codec")]


class Communication(Section):
    """How ranks that share no memory send each other gradients and parameters."""

    codec: Codec = Field(  # type: ignore[assignment]
        "none",
        description="Encoding of the gradients sent between ranks (for `local_sgd`: of the parameter deltas).  What a "
        "message leaves out is added to the next one (error feedback).  A parameter server also encodes the parameter "
        "changes in its replies.",
    )
