"""Plain values as text: equal ones are spelled alike, in every process and in any order of sets and dictionaries."""

import hashlib
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import torch

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), range, slice)
OF_TORCH = (torch.dtype, torch.layout, torch.memory_format)
SEQUENCES = (list, tuple, torch.Size)
SETS = (set, frozenset)
DICTIONARIES = (dict, OrderedDict, MappingProxyType)
LONGEST = 200
"""Characters of the longest text that is kept whole; longer ones are cut, with a checksum."""

DEEPEST = 50


def spell(value: Any, depth: int = 0) -> str | None:
    """Returns the text of a plain value or of containers of them; None if it holds anything else."""
    kind = type(value)
    if kind in PLAIN or kind in OF_TORCH:
        return repr(value)
    if depth > DEEPEST:
        return None
    if kind in DICTIONARIES:
        pairs = [(spell(key, depth + 1), spell(item, depth + 1)) for key, item in value.items()]
        texts = [None if None in pair else f"{pair[0]}: {pair[1]}" for pair in pairs]
    elif kind in SEQUENCES or kind in SETS:
        texts = [spell(item, depth + 1) for item in value]
    else:
        return None
    spelled = [text for text in texts if text is not None]
    if len(spelled) < len(texts):
        return None
    first, last = "[]" if kind is list else "()" if kind in SEQUENCES else "{}"
    return first + ", ".join(spelled if kind in SEQUENCES else sorted(spelled)) + last


def shortened(text: str) -> str:
    """Returns a text, or the beginning and a checksum of a long one."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 4]}... {hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"
