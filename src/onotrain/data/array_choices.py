"""Which arrays of an HDF5 or NPZ file are taken, and which are beside them: for those who look before they train."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onotrain.data.array_names import choose_arrays
from onotrain.data.dataset import DataSpec
from onotrain.data.npy import opened_npz

_TRAINING = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)
#: What stands in the place of ``train`` in the names of other parts.
_PARTS = {"validation": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
_SHOWN = 10


@dataclass(frozen=True)
class ArrayChoices:
    """What is taken from a file.

    Parameters
    ----------
    notes
        What was decided for the user, in words.
    parts
        ``validation`` and ``test``, where the file has arrays for them: the names of features and targets.
    """

    notes: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def array_choices(spec: DataSpec, kind: str) -> ArrayChoices:
    """Return what would be taken from a file of arrays, or from the first of several.

    Parameters
    ----------
    spec
        Expanded; what it names is no choice.
    kind
        Format of the file.

    Raises
    ------
    DataError
        It cannot be read, or it is not clear what to take.
    """
    if kind == "npz":
        with opened_npz(spec.path) as (_, members):
            return _choices(list(members), spec)
    if kind == "hdf5":
        from onotrain.data.hdf5 import find_arrays, open_file
        from onotrain.data.hdf5_safety import list_arrays

        with open_file(spec.path) as file:
            return _choices(list_arrays(file, spec.path), spec, find_arrays(file, spec).notes)
    return ArrayChoices()


def _choices(names: Sequence[str], spec: DataSpec, more: Sequence[str] = ()) -> ArrayChoices:
    features, targets = choose_arrays(names, spec)
    notes = []
    if spec.features is None or (spec.targets is None and targets):
        notes.append(f"arrays: features {', '.join(features)}; targets {', '.join(targets) or 'none'}")
    parts = _parts(names, features, targets) if spec.features is None and not spec.more else {}
    notes += [f"{part}: features {x}; targets {y}" for part, (x, y) in parts.items()]
    taken = {*features, *targets, *(name for pair in parts.values() for name in pair), spec.weights}
    rest = [name for name in names if name not in taken and not name.endswith("_names")]
    if rest:
        shown = ", ".join(rest[:_SHOWN]) + (", ..." if len(rest) > _SHOWN else "")
        notes.append(f"not used: {shown} (--features, --targets)")
    return ArrayChoices((*notes, *more), parts)


def _parts(names: Sequence[str], features: Sequence[str], targets: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the arrays that are called as those for training are, but for another part."""
    if len(features) != 1 or len(targets) != 1:
        return {}
    found = {}
    of_lower = {name.lower(): name for name in names}
    for part, words in _PARTS.items():
        for word in words:
            x, y = (_TRAINING.sub(word, name).lower() for name in (features[0], targets[0]))
            if x != features[0].lower() and y != targets[0].lower() and x in of_lower and y in of_lower:
                found[part] = (of_lower[x], of_lower[y])
                break
    return found
