"""Features that are columns of a table to what training can take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onotrain.data import parts
from onotrain.data.dataset import Dataset, DataSpec, listed
from onotrain.data.description import DataDescription
from onotrain.data.for_network import labelled_table, table_for
from onotrain.data.identity import digest_of, digest_of_table, identity_of
from onotrain.data.missing_targets import left_out
from onotrain.data.normalization import Normalization
from onotrain.data.prepared import Prepared, parts_apart
from onotrain.data.sources import read_table
from onotrain.data.streaming import is_large, notes_on, stored_table, table_stream
from onotrain.data.streams import Stream
from onotrain.data.tables.labelled import labelled_only, targets_dataset
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.roles import choose_roles, formats_of
from onotrain.data.tables.table import Table, shown
from onotrain.data.units import check_units, units_of
from onotrain.data.wanted import Wanted
from onotrain.errors import DataError


def prepare_table(section: Any, spec: DataSpec, wanted: Wanted) -> Prepared:
    """Read features that are columns of a table."""
    if wanted.codes:
        raise DataError(
            f"{spec.path}: layer embedding has `columns`, which are for arrays; this is a table",
            hint="leave them out: data.columns says which columns are categorical, such as {city: categorical}",
        )
    texts = _texts(section)
    formats = formats_of(section.columns)
    store = None if spec.held is not None else stored_table(spec, section.stream, texts=texts, formats=formats)
    stays = store is not None and (section.stream is True or is_large(store.nbytes, wanted.memory))
    table = (
        store if store is not None and stays else read_table(spec, texts=texts, formats=formats, reader=wanted.reader)
    )
    roles = choose_roles(table, spec, section.columns)
    rows = len(table)
    table, file_rows = labelled_only(table, roles, section.columns, section.missing_targets)
    labels = targets_dataset(table, roles, section.columns)
    codec, arrays, more = wanted.targets(section, labels, file_rows, table)
    setting = section.normalize
    scale = setting if isinstance(setting, str) else (setting.mean, setting.std)
    kept, kinds = None, roles.kinds
    if wanted.inherited is not None:
        kept = wanted.inherited.preparation_of(spec.path, roles.features, section)
        kinds = wanted.inherited.in_order(kinds)
    if kept is not None and section.preparation == "auto" and not kept.encodes(kinds, wanted.embedded):
        kept = None
    if kept is not None:
        kept.check_units(table)
    preparation = kept or Preparation.fit(table, kinds, scale, arrays.get(parts.TRAIN), embedded=wanted.embedded)
    streams: dict[str, Stream] = {}
    nbytes = len(table) * len(preparation.names) * np.dtype(wanted.dtype).itemsize
    if store is not None and (section.stream is True or is_large(nbytes, wanted.memory)):
        samples = table if stays else labelled_only(store, roles, section.columns, section.missing_targets)[0]
        types = {name: table.type_of(name) for name in preparation.inputs}
        streams["train"] = table_stream(samples, preparation, wanted.dtype, types)
    else:
        arrays["features"] = preparation.transform(table, wanted.dtype)
    memory, digests = wanted.memory - (nbytes if "features" in arrays else 0), dict[str, str]()
    for part, where in parts_apart(section):
        samples, found = _part_of_table(section, spec, part, where, preparation, roles.targets, wanted, memory)
        digests[part] = digest_of_table(samples)
        if samples.on_disk:
            streams[part] = table_stream(samples, preparation, wanted.dtype)
        else:
            arrays[f"{part}_features"] = preparation.transform(samples, wanted.dtype)
        check_units(found, labels.target_units)
        arrays |= wanted.labels(part, codec, found)
    notes = [
        *table.all_notes, *roles.notes(), *left_out(rows - len(table), section.missing_targets), *more,
        *_coded(preparation), *notes_on(streams.get("train"), section.window_mib),
    ]  # fmt: skip
    description = DataDescription(
        (len(preparation.names),), wanted.dtype, preparation.names, roles.targets or None, Normalization.none(), codec,
        preparation=preparation, digest=identity_of([digest_of(column.values for column in table)], digests),
        target_units=units_of(section.units, codec, labels), inherited=kept is not None,
    )  # fmt: skip
    return Prepared(arrays, description, tuple(notes), streams)


def _coded(preparation: Preparation) -> Iterator[str]:
    """Yield a note on columns that are codes."""
    found = [f"{each.column} ({each.codes:,} categories)" for each in preparation.categories.values()]
    if found:
        yield f"codes for layer embedding: {shown(found)}"


def _texts(section: Any) -> dict[str, bool]:
    """Return whether columns are read as text, by name or pattern; patterns are for features."""
    no_features = dict.fromkeys(
        (*(listed(section.targets) or ()), *([section.weights] if section.weights else ())), False
    )
    said = {name: kind.name in ("categorical", "boolean", "id") for name, kind in section.columns.items()}
    return no_features | said


def _part_of_table(
    section: Any, spec: DataSpec, part: str, where: Any, preparation: Preparation, targets: tuple[str, ...],
    wanted: Wanted, memory: int,
) -> tuple[Table, Dataset]:  # fmt: skip
    """Return the samples of a part that is a table of its own, and their targets."""
    if not isinstance(where, str):
        raise DataError(
            f"{spec.path}: data.{part} names arrays, but the training data are a table",
            hint="give the path of another table, a fraction, or data.split",
        )
    of_part = DataSpec(where, section.format, csv=spec.csv, weights=spec.weights, held=wanted.held.get(part))
    stream = False if of_part.held is not None else section.stream
    table = table_for(of_part, preparation, targets, stream, memory, wanted.reader, section.columns)
    return labelled_table(table, preparation, targets, spec.weights, section.columns, section.missing_targets)
