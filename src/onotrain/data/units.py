"""Units of the targets: as the configuration says, else as the files do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onotrain.data.dataset import Dataset
from onotrain.data.output_names import by_output
from onotrain.data.targets import TargetCodec
from onotrain.errors import DataError


def units_of(setting: str | Mapping[str, str] | None, codec: TargetCodec, dataset: Dataset) -> tuple[str, ...] | None:
    """Return the unit of each target, empty where it is not known; None if none is.

    Parameters
    ----------
    setting
        ``data.units``: one unit for all targets, units by name, or None.
    codec
        Of the targets.
    dataset
        That they are of.

    Raises
    ------
    DataError
        The targets are classes, which have no units, or there is no such target.
    """
    if setting is None:
        return dataset.target_units
    if codec.task != "regression":
        raise DataError(
            f"{dataset.source}: data.units is given, but the targets are classes, which have no units",
            hint="leave it out, or use a loss for quantities such as mse",
        )
    names = codec.shown_names(dataset.target_names)
    if isinstance(setting, str):
        return (setting,) * len(names)
    known = dataset.target_units or ("",) * len(names)
    return tuple(by_output(setting, names, known, f"{dataset.source}: data.units names the target"))


def other_unit(source: str, what: str, unit: str, known: str) -> DataError:
    """Return the error for values that are in another unit than in the training data."""
    return DataError(
        f"{source}: {what} is in {unit}, but in {known} in the training data",
        hint="convert it to the same unit, or call the unit the same if it is",
    )


def check_units(dataset: Dataset, known: Sequence[str] | None) -> None:
    """Refuse targets that the file says to be in other units than those of the training data (`known`)."""
    units = dataset.target_units or ()
    if known is None or len(units) != len(known):
        return
    for number, (unit, expected) in enumerate(zip(units, known, strict=True)):
        if unit and expected and unit != expected:
            name = dataset.target_names[number] if dataset.target_names else number
            raise other_unit(dataset.source, f"target {name!r}", unit, expected)


def joined_units(datasets: Sequence[Dataset]) -> tuple[str, ...] | None:
    """Return the units of the targets of data sets that are put together, where one of them says them.

    Raises
    ------
    DataError
        Two say different ones.
    """
    known = [each for each in datasets if each.target_units is not None]
    if not known:
        return None
    merged, said_by = list(known[0].target_units or ()), [known[0].source] * len(known[0].target_units or ())
    for each in known[1:]:
        for number, unit in enumerate(each.target_units or ()):
            if unit and merged[number] and unit != merged[number]:
                name = each.target_names[number] if each.target_names else number
                raise DataError(
                    f"{each.source}: target {name!r} is in {unit}, but in {merged[number]} in {said_by[number]}",
                    hint="convert it to the same units",
                )
            if unit and not merged[number]:
                merged[number], said_by[number] = unit, each.source
    return tuple(merged)
