"""The parameter digest of the hook protocol, in pure Python."""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Dict, Iterable, List, Sequence, Tuple

Entry = Tuple[str, str, Sequence[int], Any]

_WIDTH = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


def parameter_digest(entries: Iterable[Entry]) -> str:
    """Hex SHA-256 over (name, dtype, shape, bytes) entries, whatever their order.

    `dtype` is written as safetensors does (`F32`); the bytes are contiguous and little-endian: anything with the buffer
    protocol, or a function that returns it when its turn comes. Raises ValueError for a name given twice or bytes that do not fit the shape.
    """
    rows: List[Tuple[bytes, str, List[int], Any]] = []
    seen: Dict[str, None] = {}
    for name, dtype, shape, data in entries:
        if name in seen:
            raise ValueError(f"parameter {name!r} is given twice")
        seen[name] = None
        rows.append((name.encode("utf-8"), dtype, [int(dimension) for dimension in shape], data))
    total = hashlib.sha256()
    for key, dtype, dimensions, data in sorted(rows, key=lambda row: row[0]):
        view = memoryview(data() if callable(data) else data)
        count = 1
        for dimension in dimensions:
            count *= dimension
        width = _WIDTH.get(dtype)
        if width is not None and view.nbytes != count * width:
            name = key.decode("utf-8")
            raise ValueError(f"parameter {name!r}: {view.nbytes} bytes, but {dtype} {dimensions} has {count * width}")
        kind = dtype.encode("utf-8")
        total.update(struct.pack("<Q", len(key)) + key)
        total.update(struct.pack("<Q", len(kind)) + kind)
        total.update(struct.pack(f"<Q{len(dimensions)}Q", len(dimensions), *dimensions))
        total.update(view)
    return total.hexdigest()
