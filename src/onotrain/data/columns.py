"""Tables that are used with a network or a training file: the columns of the same names are meant, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onotrain.data.dataset import DataSpec
from onotrain.data.delimited_text import look_at
from onotrain.errors import DataError

#: Names in a message.
_SHOWN = 20


def select_columns(
    spec: DataSpec,
    kind: str,
    feature_names: tuple[str, ...] | None,
    target_names: tuple[str, ...] | None,
    inputs: int,
    *,
    with_targets: bool,
) -> DataSpec:
    """Choose columns by name where both sides have names, else all columns but the label.

    Parameters
    ----------
    spec
        Of a CSV or TSV file.
    kind
        ``csv`` or ``tsv``.
    feature_names, target_names, inputs
        Of the training data; None where those have no names.
    with_targets
        Whether targets are to be read.

    Raises
    ------
    DataError
        A column is missing.
    """
    layout = look_at(spec.path, kind)
    targets = spec.targets
    if layout.header is None or feature_names is None:
        alone = layout.columns == inputs and not with_targets
        return replace(spec, targets=() if alone and targets is None else targets)
    wanted = feature_names if spec.features is None else spec.features
    missing = [name for name in ([wanted] if isinstance(wanted, str) else wanted) if name not in layout.header]
    if missing:
        raise DataError(
            f"{spec.path}: {len(missing)} of the columns that the network needs are missing: {_listed(missing)}; "
            f"the header has {_listed(layout.header)}"
        )
    if with_targets and targets is None and target_names and set(target_names) <= set(layout.header):
        targets = target_names
    return replace(spec, features=wanted, targets=targets if with_targets else ())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
