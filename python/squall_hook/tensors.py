"""Tensors and arrays as entries of the parameter digest, told apart by what they can do, so that nothing is imported.

Bytes of a tensor on the CPU are not copied; others are fetched one at a time.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Callable, Iterable, Iterator, Mapping, Tuple

from .digest import Entry

# Names of dtypes in torch and numpy, and what safetensors calls them.
_NAMES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64",
}  # fmt: skip


def entries(parameters: Mapping[str, Any]) -> Iterator[Entry]:
    """Name, dtype, shape and bytes of each value: (dtype, shape, bytes) as it is, a tensor or array as what it holds.

    What a `state_dict` may also hold, such as a module's extra state, is left out. Raises ValueError for a dtype that
    safetensors has no name for, and for a tensor of which this process has only a part.
    """
    for name, value in parameters.items():
        if isinstance(value, (tuple, list)):
            yield (name, *value)  # type: ignore[misc]
        elif is_array(value):
            yield (name, dtype_of(name, value), [int(n) for n in value.shape], bytes_of(value))


def is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape") and (hasattr(value, "data_ptr") or hasattr(value, "tobytes"))


def dtype_of(name: str, value: Any) -> str:
    if hasattr(value, "full_tensor"):
        raise ValueError(f"parameter {name!r} is spread over several ranks; gather it first")
    # numpy's dtypes have a name without the order of bytes; torch's say theirs as text.
    kind = getattr(value.dtype, "name", None) or str(value.dtype).rpartition(".")[2]
    found = _NAMES.get(kind)
    if found is None:
        raise ValueError(f"parameter {name!r} has the dtype {kind}, which safetensors cannot write")
    return found


def bytes_of(value: Any) -> Callable[[], Any]:
    """What makes the contiguous little-endian bytes, when their turn comes."""
    return (lambda: _tensor(value)) if hasattr(value, "data_ptr") else (lambda: _array(value))


def _tensor(value: Any) -> Any:
    value = value.detach().cpu().contiguous()
    size = value.numel() * value.element_size()
    if size == 0:
        return b""
    if sys.byteorder != "little":
        raise ValueError("tensors of a big-endian machine are not read")
    data = (ctypes.c_char * size).from_address(value.data_ptr())
    data.owner = value  # type: ignore[attr-defined]
    return data


def _array(value: Any) -> bytes:
    return bytes(value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())


def named(pairs: Iterable[Tuple[str, Any]]) -> Mapping[str, Any]:
    """The pairs as a mapping, without the prefixes that wrappers put before every name."""
    return {name.replace("_orig_mod.", ""): value for name, value in pairs}
