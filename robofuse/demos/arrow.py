"""Parquet files: tables of NumPy columns, written whole or not at all, and refused in a sentence when damaged."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robofuse.demos.pictures import from_png
from robofuse.errors import InputError, StateError

if TYPE_CHECKING:
    import pyarrow as pa

REMEDY = "take the folder from where it is whole, or record again into another one"


def need_arrow() -> None:
    """RuntimeError if pyarrow, which writes and reads parquet, is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise StateError(
            "demonstrations need pyarrow, which is not installed; pip install 'robofuse[lerobot]'"
        ) from None


def column(values: np.ndarray) -> "pa.Array":
    """An Arrow array of (n,), (n, k) or (n, k, l) in the types that LeRobot gives such features."""
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    for width in values.shape[:0:-1]:  # nested lists from the inside out
        flat = pa.ListArray.from_arrays(pa.array(np.arange(0, len(flat) + 1, width, dtype=np.int32)), flat)
    return flat


def png_column(pictures: Sequence[bytes]) -> "pa.Array":
    """PNG files as Hugging Face's `datasets` embeds them."""
    import pyarrow as pa

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": one, "path": None} for one in pictures], kind)


def write_parquet(path: Path, groups: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any] | None = None) -> None:
    """Write a file; the caller moves it to its place.

    Args:
        path: where to.
        groups: one per row group, column → Arrow array, or a list that Arrow can make one of.
        metadata: of the schema, name → plain JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [pa.table(dict(group)) for group in groups]
    schema = tables[0].schema.with_metadata({name: json.dumps(value) for name, value in (metadata or {}).items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="snappy", write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table.cast(schema))


def read_parquet(path: Path) -> "pa.Table":
    """A file that `write_parquet` wrote; ValueError in a sentence if it is missing, cut off or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; {REMEDY}") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is cut off or damaged ({str(error).splitlines()[0]}); {REMEDY}") from None


def values(table: "pa.Table", name: str, dtype: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """A column as dtype (n, *shape); of pictures, decoded.

    Args:
        table: of `read_parquet`.
        name: of the column.
        dtype: NumPy's name.
        shape: of one row; () for numbers.
        path: of the file, for the message.

    Raises:
        ValueError: no such column, or of other shape or type.
    """
    import pyarrow as pa

    if name not in table.column_names:
        raise InputError(f"{path} has no column {name!r}; {REMEDY}")
    array = table.column(name).combine_chunks()
    if pa.types.is_struct(array.type):
        pictures = [from_png(one["bytes"], shape, dtype, f"{name} in {path}") for one in array.to_pylist()]
        return np.stack(pictures) if pictures else np.zeros((0, *shape), dtype)
    for _ in shape:
        array = array.flatten() if hasattr(array, "flatten") else array
    found = array.to_numpy(zero_copy_only=False)
    if found.dtype != np.dtype(dtype) or found.size != len(table) * int(np.prod(shape)):
        raise InputError(f"column {name!r} in {path} is not {dtype} {shape}; {REMEDY}")
    return found.reshape(len(table), *shape)
