"""A trained network for other programs: safetensors, npz, or ONNX.

All that is between a file and a prediction in its units goes with the network in every format.  The same network gives
the same bytes.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onotrain.errors import PlatformError, UsageError
from onotrain.files import write_atomically
from onotrain.inference.exported_ports import Ports, ports_of
from onotrain.inference.predictor import Predictor, load
from onotrain.inference.sinks import check_output
from onotrain.nn.plan import Plan

_INPUT = (
    "output = network((input - normalization mean) / normalization std); "
    "uint8 pixels are divided by 255 before that, other data are taken as they are"
)
_TABLE_INPUT = "the columns of a table, prepared one after the other as preparation says; then: " + _INPUT


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    path: Path
    ports: Ports


def export(run: str | os.PathLike[str], kind: str, output: str | os.PathLike[str]) -> Path:
    """Write the network of a run directory or checkpoint for other programs, and return the file; see `write`."""
    return write(run, kind, output).path


def write(run: str | os.PathLike[str], kind: str, output: str | os.PathLike[str]) -> Exported:
    """Write the network of a run directory or checkpoint for other programs.

    Parameters
    ----------
    run
        Run directory or checkpoint file.
    kind
        One of `onotrain.known_names.EXPORT_FORMATS`.
    output
        File to write; replaced if it is there.

    Returns
    -------
    Exported
        The file, and what goes in and comes out.

    Raises
    ------
    UsageError
        There is no such run, no directory for the output, or a loss that predicts by a function of its own.
    CheckpointError
        The checkpoint is damaged.
    PlatformError
        The library for this format is not installed.
    ResourceError
        The output cannot be written.
    """
    path = check_output(output, (), inputs=(run,))
    predictor = load(run)
    loss = predictor.model.loss
    if loss.options.activation is None:
        raise UsageError(
            f"loss {loss.name} of {type(loss).__module__} predicts by a function of its own, which {kind} cannot hold",
            hint="predict with onotrain, or give the loss's options an activation: identity, sigmoid, softmax or exp",
        )
    data = _WRITERS[kind](predictor)
    write_atomically(path, data)
    return Exported(path, ports_of(predictor, kind))


def tensors(predictor: Predictor) -> dict[str, np.ndarray]:
    """Return the parameters by PyTorch's names: ``dense_0.weight`` ``[out, in]``, ``dense_0.bias``."""
    views = predictor.model.layout.views(predictor.parameters)
    return {name.replace("/", "."): view for name, view in views.items()}


def description(predictor: Predictor) -> dict[str, Any]:
    """Return what must be known besides the tensors, as JSON-able data.

    ``layers`` is the network as a list of what its layers say of themselves (`onotrain.nn.layers.base.Description`):
    weighted sums (their tensors begin with `name`), activations, sums and others; dropout does nothing after training
    and is left out.  Each reads what the entry before it makes, unless ``of`` says which entries, counted from 1; 0 is
    what the network reads.  ``output`` says what is applied to the last layer: softmax, sigmoid, exp, identity, or
    gaussian, which leaves the mean of each target as it is and makes ``sqrt(exp(s) + min_variance)`` of the
    number s behind it (``config.loss``). ``preparation`` makes features of the columns of a table
    (`Preparation.to_dict`), ``target_scaling`` (`TargetScaling.to_dict`, an entry for each output) is undone
    after that. ``columns`` says what each output is then.
    """
    metadata = predictor.metadata
    preparation, scaling = metadata.preparation, metadata.codec.output_scaling
    return {
        "format": "onotrain-network",
        "version": 1,
        "layers": _operations(predictor.model.plan),
        "input": _INPUT if preparation is None else _TABLE_INPUT,
        "output": predictor.model.loss.options.activation,
        "task": predictor.output.task,
        "feature_shape": list(metadata.feature_shape),
        "feature_names": None if metadata.feature_names is None else list(metadata.feature_names),
        "names": None if predictor.output.names is None else list(predictor.output.names),
        "columns": predictor.output.columns,
        "preparation": None if preparation is None else preparation.to_dict(),
        "normalization": metadata.normalization.to_dict(),
        "target_scaling": None if scaling is None else scaling.to_dict(),
        "config": metadata.config.to_mapping(),
    }


def _operations(plan: Plan) -> list[dict[str, Any]]:
    """Return what the layers compute after training, with ``of`` where that is not what comes before."""
    found = list[dict[str, Any]]()
    made = {0: 0}  # tensor -> number of operations that come to it
    for layer, inputs, output in plan.nodes:
        of = [made[tensor] for tensor in inputs]
        first, *others = layer.describe().operations or ({},)
        if first:
            found += [{**first, **({"of": of} if of != [len(found)] else {})}, *map(dict, others)]
        made[output] = len(found) if first else of[0]
    return found


def _text(predictor: Predictor) -> str:
    return json.dumps(description(predictor), sort_keys=True)


def _safetensors(predictor: Predictor) -> bytes:
    try:
        from safetensors.numpy import save
    except ModuleNotFoundError as error:
        raise _missing("safetensors") from error
    # One entry, because the library writes several in an order that differs from run to run.
    return save({k: np.ascontiguousarray(v) for k, v in tensors(predictor).items()}, {"onotrain": _text(predictor)})


def _npz(predictor: Predictor) -> bytes:
    normalization = predictor.metadata.normalization
    arrays = {
        **tensors(predictor),
        "normalization_mean": normalization.mean,
        "normalization_std": normalization.std,
        "description": np.array(_text(predictor)),
    }
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]  # its stub takes the arrays for its option allow_pickle
    return data.getvalue()


def _onnx(predictor: Predictor) -> bytes:
    try:
        from onotrain.inference.onnx_graph import onnx_bytes
    except ModuleNotFoundError as error:
        raise _missing("onnx") from error
    return onnx_bytes(predictor, ports_of(predictor, "onnx"), _text(predictor))


def _missing(library: str) -> PlatformError:
    return PlatformError(
        f"cannot export: the Python package {library} is not installed", hint="pip install 'onotrain[export]'"
    )


#: One of `onotrain.known_names.EXPORT_FORMATS` -> its bytes for a network.
_WRITERS: dict[str, Callable[[Predictor], bytes]] = {"safetensors": _safetensors, "npz": _npz, "onnx": _onnx}
