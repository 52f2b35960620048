"""How the hook writes and reads lines: version 1 of the protocol in docs/hook-protocol.md.

Event bodies are put together as text, because `json.dumps` of a dictionary would be the larger part of an
event's cost; every string still goes through the JSON encoder. No line is longer than `LINE_MAX`.
"""

from __future__ import annotations

import json
import math
import operator
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

VERSION = 1
LINE_MAX = 8192

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_known: Dict[str, str] = {}


class Arm(NamedTuple):
    """A hold that the agent asked for; what is None matches anything."""

    id: str
    phase: str
    rank: Optional[int]
    step: Optional[int]
    epoch: Optional[int]


def quoted(text: str) -> str:
    """`text` as a JSON string. Short texts, such as phases, are remembered."""
    found = _known.get(text)
    if found is None:
        found = _encode(text)
        if len(text) <= 32 and len(_known) < 256:
            _known[text] = found
    return found


def member(name: str, value: Any) -> str:
    """`,"name":value`, or nothing for None. A number JSON cannot write (NaN, infinity) becomes null.

    Raises TypeError or ValueError for what is neither text, number, nor a list of integers.
    """
    if value is None:
        return ""
    kind = type(value)
    if kind is int:
        return f',"{name}":{value}'
    if kind is float:
        return f',"{name}":{value!r}' if math.isfinite(value) else f',"{name}":null'
    if kind is str:
        return f',"{name}":{quoted(value)}'
    if kind is bool:
        return f',"{name}":true' if value else f',"{name}":false'
    if kind is list:
        return f',"{name}":[{",".join([str(operator.index(item)) for item in value])}]'
    try:
        return f',"{name}":{operator.index(value)}'
    except TypeError:
        return member(name, float(value))


def place(phase: str, step: Optional[int], epoch: Optional[int]) -> str:
    """The members of a phase; `phase` is one of the protocol's own names."""
    at = "" if step is None else f',"step":{step}'
    within = "" if epoch is None else f',"epoch":{epoch}'
    return f',"phase":"{phase}"{at}{within}'


def line(kind: str, body: Dict[str, Any]) -> bytes:
    """One whole message."""
    return (_encode({kind: body}) + "\n").encode("utf-8", "replace")


def event_line(seq: int, now: int, kind: str, body: str, dropped: int) -> bytes:
    """One event; `body` is made of `member`s."""
    lost = f',"dropped":{dropped}' if dropped else ""
    text = f'{{"event":{{"seq":{seq},"t_mono_ns":{now},"kind":"{kind}"{body}{lost}}}}}\n'
    return text.encode("utf-8", "replace")


def phase_line(seq: int, now: int, kind: str, phase: str, step: Optional[int], epoch: Optional[int]) -> bytes:
    """`event_line` of a `place`, in one piece where step and epoch are known: most lines of a training are of this kind."""
    if step is None or epoch is None:
        return event_line(seq, now, kind, place(phase, step, epoch), 0)
    text = f'{{"event":{{"seq":{seq},"t_mono_ns":{now},"kind":"{kind}","phase":"{phase}","step":{step},"epoch":{epoch}}}}}\n'
    return text.encode()


def parse(raw: bytes) -> Optional[Tuple[str, Dict[str, Any]]]:
    """The kind and body of a message, or None for anything that is not one."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if type(message) is not dict or len(message) != 1:
        return None
    ((kind, body),) = message.items()
    return (kind, body) if type(body) is dict else None


def arms(entries: Any) -> List[Arm]:
    """The holds of a `welcome` or an `arm`; an entry that is not one is left out."""
    found = []
    for entry in entries if type(entries) is list else ():
        if type(entry) is dict and type(entry.get("id")) is str and type(entry.get("phase")) is str:
            found.append(Arm(entry["id"], entry["phase"], entry.get("rank"), entry.get("step"), entry.get("epoch")))
    return found


def listed(name: str, ids: List[int], room: int) -> List[str]:
    """`ids` as members, each short enough for a line. One is the rule, and is written at the speed of C."""
    text = str(ids)
    # `strip` would ask for each character whether it is in the set.
    if len(text) <= room and ids and not text.encode().translate(None, b"[]0123456789, "):
        return [f',"{name}":{text}']
    return [member(name, part) for part in slices(ids, room)]


def slices(ids: Sequence[int], room: int) -> List[List[int]]:
    """`ids` in order, cut so that each part, written as JSON, fits in `room` bytes."""
    parts: List[List[int]] = [[]]
    used = 0
    for item in ids:
        value = operator.index(item)
        need = len(str(value)) + 1
        if used + need > room and parts[-1]:
            parts.append([])
            used = 0
        parts[-1].append(value)
        used += need
    return parts


def shortened(text: str, room: int) -> Tuple[str, bool]:
    """`text` cut so that its JSON form fits in `room` bytes, and whether it was cut."""
    if len(_encode(text[: room + 1]).encode("utf-8", "replace")) <= room and len(text) <= room:
        return text, False
    low, high = 0, min(len(text), room)
    while low < high:
        middle = (low + high + 1) // 2
        if len(_encode(text[:middle]).encode("utf-8", "replace")) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low], True
