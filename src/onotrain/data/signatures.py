"""What the first bytes of a file say about its format, whatever its name is."""

from __future__ import annotations

import bz2
import codecs
import os
import re
import zipfile
import zlib
from pathlib import Path

from onotrain.data.paths import GZIP_MAGIC
from onotrain.errors import DataError
from onotrain.files import open_regular
from onotrain.text import cut

__all__ = ["format_of_content"]

_SAMPLE_BYTES = 1 << 13
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
#: Where the signature of HDF5 may be behind a block of the user's: MATLAB begins its files with 512 bytes of text.
_HDF5_OFFSETS = (512, 1024, 2048, 4096)
_MAGIC = {b"\x93NUMPY": "npy", b"PAR1": "parquet", b"ARROW1": "arrow"}
_IDX = re.compile(rb"\0\0[\x08\x09\x0b-\x0e][\x01-\x08]", re.DOTALL)
#: Control characters that occur in no text.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OF_EXCEL = "export the sheet: File, Save as, CSV UTF-8 (in LibreOffice: Text CSV)"
_AS_CSV = "write it again as CSV or Parquet"
#: What is known, and is not read: what it is, and what to do.
_REFUSED = {
    b"CDF\x01": ("a file of the classic netCDF format", "convert it: nccopy -k nc4 FILE NEW.nc"),
    b"CDF\x02": ("a file of the classic netCDF format", "convert it: nccopy -k nc4 FILE NEW.nc"),
    b"CDF\x05": ("a file of the classic netCDF format", "convert it: nccopy -k nc4 FILE NEW.nc"),
    b"MATLAB 5.0 MAT-file": ("a MATLAB file of version 5", "save it with save(FILE, '-v7.3'), which is HDF5"),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an Excel workbook", _OF_EXCEL),
    b"SQLite format 3\0": ("an SQLite data base", _AS_CSV),
    b"FEA1": ("a Feather file of version 1", "write it again as version 2"),
    **{
        bytes((0x80, protocol)): ("a pickle of Python objects, which can run code", "write its arrays as NPZ or HDF5")
        for protocol in range(2, 6)
    },
    b"\xfd7zXZ\0": ("a file compressed with xz", "unpack it: unxz FILE"),
    b"\x28\xb5\x2f\xfd": ("a file compressed with zstd", "unpack it: unzstd FILE"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "unpack it"),
    b"\x0e\x03\x13\x01": ("an HDF4 file", "convert it: h4toh5 FILE NEW.h5"),
}


def format_of_content(path: str | os.PathLike[str]) -> str | None:
    """Return the format that a file's first bytes stand for; None if they do not tell, or there is no such file.

    Text is ``csv``: how it is written is looked at later.

    Raises
    ------
    DataError
        A format that is known, and that is not read.
    """
    file = Path(path).expanduser()
    try:
        if not file.is_file():
            return None
        with open_regular(file) as raw:
            head = raw.read(_SAMPLE_BYTES)
    except (OSError, ValueError):  # is said when it is read
        return None
    if head.startswith(_HDF5_MAGIC) or any(head.startswith(_HDF5_MAGIC, offset) for offset in _HDF5_OFFSETS):
        return "hdf5"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    for magic, (what, hint) in _REFUSED.items():
        if head.startswith(magic):
            raise DataError(f"{path}: {what}, which is not read", hint=hint)
    if head.startswith(b"PK\x03\x04"):
        return _of_archive(file, path)
    if head.startswith((GZIP_MAGIC, b"BZh")):
        head = _decompressed(head)
    if _IDX.match(head):
        return "idx"
    return "csv" if _is_text(head) else None


def _of_archive(file: Path, path: str | os.PathLike[str]) -> str | None:
    """Return the format of a ZIP archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # noqa: BLE001 - a hostile archive fails in many ways, which is said when it is read
        return None
    if any(name.endswith(".npy") for name in names):
        return "npz"
    if any(name.startswith("xl/") for name in names):
        raise DataError(f"{path}: an Excel workbook, which is not read", hint=_OF_EXCEL)
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(
            f"{path}: holds pickled Python objects, which are not loaded because they can run code",
            hint="write its arrays as NPZ or HDF5",
        )
    raise DataError(
        f"{path}: a ZIP archive of {cut(', '.join(names), 60) or 'nothing'}, which is not read",
        hint="unpack it: unzip FILE; or compress the file inside with gzip",
    )


def _decompressed(head: bytes) -> bytes:
    """Return the beginning of what a compressed file holds; nothing if that cannot be told."""
    try:
        if head.startswith(GZIP_MAGIC):
            return zlib.decompressobj(wbits=31).decompress(head, _SAMPLE_BYTES)
        return bz2.BZ2Decompressor().decompress(head, _SAMPLE_BYTES)
    except (zlib.error, OSError, EOFError, ValueError):
        return b""


def _is_text(head: bytes) -> bool:
    """Return whether bytes are the beginning of a text of some lines or fields."""
    if head.startswith(_MARKS):
        return True
    if not head.strip() or _BINARY.search(head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:  # an older encoding, of which mostly ASCII is left
        return b"\n" in head and sum(byte >= 0x80 for byte in head) * 4 < len(head)
    return len(head) == _SAMPLE_BYTES or any(mark in head for mark in (b"\n", b"\r", b",", b";", b"\t"))
