"""What goes into an exported network and what comes out: names, types, shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.table import shown
from onotrain.inference.predictor import Predictor

#: Tasks whose answer is one class.
_ONE_CLASS = ("multiclass", "binary")
_OUTPUTS = ("probabilities", "values", "label")
_MEANINGS = {
    "numeric": "a number; NaN: missing",
    "categorical": "text; empty: missing",
    "boolean": "text; empty: missing",
    "date": "days since 1970; NaN: missing",
}


@dataclass(frozen=True)
class Port:
    """One input or output.

    Parameters
    ----------
    name
        In the file.
    dtype
        ``float32``, ``float64`` or ``string``.
    shape
        With a name for the axis of the samples.
    meaning
        In a few words.
    column
        Of the table, where the input is one.
    """

    name: str
    dtype: str
    shape: tuple[str | int, ...]
    meaning: str
    column: str | None = None


@dataclass(frozen=True)
class Ports:
    """All inputs and outputs of an exported network."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def ports_of(predictor: Predictor, kind: str) -> Ports:
    """Return what goes into a network exported as `kind`, and what comes out.

    An ONNX file takes what `Predictor.predict` takes and gives what it gives.  Tensors alone (safetensors, npz) stand
    for the layers: what is before and after them is in their description.
    """
    if kind != "onnx":
        return _of_layers(predictor)
    preparation = predictor.metadata.preparation
    return Ports(_features(predictor) if preparation is None else _columns(preparation), _answers(predictor))


def _of_layers(predictor: Predictor) -> Ports:
    dtype, model = predictor.model.dtype.name, predictor.model
    before = "normalised" if predictor.metadata.preparation is None else "prepared"
    after = predictor.model.loss.options.activation
    meaning = f"before {after}" if after != "identity" else _shown(predictor)
    meaning = meaning if predictor.metadata.codec.scaling is None else "before target_scaling"
    return Ports(
        (Port("features", dtype, ("batch", model.inputs), f"{before} as the description says"),),
        (Port("outputs", dtype, ("batch", model.outputs), meaning),),
    )


def _features(predictor: Predictor) -> tuple[Port, ...]:
    """Return the input of a network that was trained on arrays."""
    stored = predictor.metadata.feature_dtype
    # What is stored in double precision may lie closer together than single precision tells apart.
    dtype = "float64" if stored == "float64" else predictor.model.dtype.name
    meaning = "pixels divided by 255" if stored == "uint8" else "before normalisation"
    return (Port("input", dtype, ("batch", predictor.model.inputs), meaning),)


def _columns(preparation: Preparation) -> tuple[Port, ...]:
    """Return an input for each column of a table."""
    names = identifiers(preparation.inputs, _OUTPUTS)
    return tuple(
        Port(name, "string" if encoder.kind in ("categorical", "boolean") else "float64", ("batch", 1),
             _MEANINGS[encoder.kind], column)
        for name, (column, encoder) in zip(names, preparation.encoders, strict=True)
    )  # fmt: skip


def _answers(predictor: Predictor) -> tuple[Port, ...]:
    scaled = predictor.metadata.codec.scaling is not None
    dtype = "float64" if scaled else predictor.model.dtype.name
    name = "values" if predictor.output.regression else "probabilities"
    answers = Port(name, dtype, ("batch", predictor.outputs), _shown(predictor))
    if predictor.output.task not in _ONE_CLASS:
        return (answers,)
    return answers, Port("label", "string", ("batch",), "the most probable class")


def _shown(predictor: Predictor) -> str:
    output = predictor.output
    names = output.shown_names if len(output.titles) == 1 else output.columns
    return f"of {names[1]}" if predictor.output.task == "binary" else f"of {shown(names)}"


def identifiers(names: Iterable[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Return names as ONNX wants them: a to z, A to Z, digits and ``_``, no digit first, each another.

    Parameters
    ----------
    names
        Any text.
    taken
        Identifiers of something else.
    """
    used, found = set(taken), []
    for name in names:
        first = name if re.fullmatch(r"\w+", name, re.ASCII) else re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        first = f"_{first}" if not first or first[0].isdigit() else first
        chosen, number = first, 2
        while chosen in used:
            chosen, number = f"{first}_{number}", number + 1
        used.add(chosen)
        found.append(chosen)
    return tuple(found)
