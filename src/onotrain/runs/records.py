"""What others read of the records of a run: of its epochs and of its end.  More may be in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from onotrain.runs.json_objects import fitted

Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
Number = Annotated[float, Field(strict=True, ge=-1e300, le=1e300)]
Flag = Annotated[bool, Field(strict=True)]
Seconds = Annotated[float, Field(strict=True, ge=0, le=1e15)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Best(_Part):
    metric: str
    value: Number
    epoch: Count


class _Origin(_Part):
    path: str
    step: Count
    parameters_sha256: str
    head: str
    preparation: str


def _like(kind: type[_Part]) -> AfterValidator:
    """Return what checks an object, and leaves it as it is."""
    adapter = TypeAdapter[Any](kind)

    def check(value: dict[str, Any]) -> dict[str, Any]:
        fitted(adapter, value)
        return value

    return AfterValidator(check)


#: The best epoch so far, by what early stopping watches; and where the first parameters come from.
Best = Annotated[dict[str, Any], _like(_Best)]
Origin = Annotated[dict[str, Any], _like(_Origin)]


class _Bytes(_Part):
    raw: list[Count]
    sent: list[Count]


class _SlowRank(_Part):
    rank: Count
    factor: Number


class _Switch(_Part):
    to: str | None = None
    reason: str | None = None


class _Staleness(_Part):
    mean: Number | None = None
    max: Number | None = None
    histogram: list[Count] = []
    run_histogram: list[Count] = []


class _Record(_Part):
    ranks: Annotated[int, Field(strict=True, ge=1, lt=1 << 20)] | None = None
    nodes: Count | None = None
    strategy: str | None = None
    ranks_seconds: dict[str, list[Seconds]] | None = None
    ranks_bytes: _Bytes | None = None
    epoch: Count | None = None
    steps: Count | None = None
    learning_rate: Number | None = None
    samples_per_second: Number | None = None
    train_seconds: Seconds | None = None
    wall_seconds: Seconds | None = None
    evaluation_seconds: Seconds | None = None
    workers: Count | None = None
    servers: Count | None = None
    method: str | None = None
    slow_rank: _SlowRank | None = None
    staleness: _Staleness | None = None
    phase: str | None = None
    switch: _Switch | None = None
    noise_scale: Number | None = None
    noise_variance: Number | None = None
    noise_square: Number | None = None
    noise_batches: Count | None = None
    warnings: list[str] | None = None
    finished: Flag | None = None
    lost_ranks: list[Count] | None = None
    data_digest: str | None = None


class _Step(_Part):
    epoch: Count
    step: Count
    samples: Count
    train_loss: Number | None
    train_accuracy: Number | None = None
    learning_rate: Number
    train_seconds: Seconds
    wall_seconds: Seconds


_STEP: TypeAdapter[Any] = TypeAdapter(_Step)
_RECORD: TypeAdapter[Any] = TypeAdapter(_Record)
_NUMBER: TypeAdapter[Any] = TypeAdapter(dict[str, Number | None])
_TOGETHER = ("ranks", "nodes", "strategy")
_OF_EPOCH = ("epoch", "learning_rate", "samples_per_second", "train_seconds")


def metrics_of(record: Mapping[str, Any], parts: tuple[str, ...] = ("train", "validation")) -> dict[str, Any]:
    """Return losses and metrics of a record, of some parts of the data, by their names there; None: not finite."""
    begins = tuple(f"{part}_" for part in parts)
    return {name: value for name, value in record.items() if name.startswith(begins) and name != "train_seconds"}


def check_record(record: dict[str, Any], *, whole: bool = False) -> None:
    """Refuse a record of an epoch, or of the end of a run, of which a part is not what it must be.

    Parameters
    ----------
    record
        A JSON object.
    whole
        Whether nothing may be missing of what the record of an epoch has.

    Raises
    ------
    ValueError
        It is so.
    """
    fitted(_RECORD, record)
    fitted(_NUMBER, {key: value for key, value in record.items() if key.startswith(("train_", "validation_"))})
    needed = (*(_TOGETHER if "ranks" in record else ()), *(_OF_EPOCH if whole else ()))
    if missing := [key for key in needed if record.get(key) is None]:
        raise ValueError(f"{missing[0]} is missing")
    if whole:
        _check_ranks(record)


def _check_ranks(record: dict[str, Any]) -> None:
    """Refuse lists by rank of another length. Those of a summary are of the ranks of its last epoch."""
    for kind, values in {**(record.get("ranks_seconds") or {}), **(record.get("ranks_bytes") or {})}.items():
        if len(values) != record.get("ranks", len(values)):
            raise ValueError(f"{kind} has {len(values)} entries, expected one for each of {record['ranks']} ranks")


def check_step(record: dict[str, Any]) -> None:
    """Refuse a record within an epoch of which a part is not what it must be. Raises ValueError."""
    fitted(_STEP, record)
