"""Section ``communication``: what gradients and parameters are sent as."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onotrain.config.base import Count, OneOf, Section


class NoCodec(Section):
    """Numbers are sent as they are."""

    name: Literal["none"] = Field("none", description="Numbers are sent as they are.")


class HalfCodec(Section):
    """Half precision."""

    name: Literal["fp16", "bf16"] = Field(
        description="Two bytes for each number: `fp16` has 11 bits and a scale for each message, `bf16` 8 bits."
    )


class Int8Codec(Section):
    """One byte for each number."""

    name: Literal["int8"] = Field(description="One byte for each number, and a scale for each 256 of them.")


class TopKCodec(Section):
    """The largest numbers only."""

    name: Literal["topk"] = Field(description="The largest numbers only, with their places (8 bytes for a float32).")
    fraction: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.01, description="Part of the numbers that is sent; half of them would be as many bytes as all."
    )


class PowerSgdCodec(Section):
    """Matrices of low rank."""

    name: Literal["powersgd"] = Field(
        description="Matrices as products of two thin ones (Vogels et al., arXiv 1905.13727); biases as they are."
    )
    rank: Count = Field(4, description="Rank of the products: bytes and accuracy rise with it.")


Codec = Annotated[NoCodec | HalfCodec | Int8Codec | TopKCodec | PowerSgdCodec, OneOf("codec")]


class Communication(Section):
    """How ranks that share no memory send each other gradients and parameters."""

    codec: Codec = Field(  # type: ignore[assignment]
        "none",
        description="What gradients, and where ranks train alone, the ways of parameters, are sent as.  What a message "
        "leaves out is sent with a later one (error feedback).  A parameter server codes the changes of parameters "
        "that it answers with, too.",
    )
