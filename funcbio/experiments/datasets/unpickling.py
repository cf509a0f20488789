"""Pickles of plain values and arrays of bytes, read so that no code in them can run."""

import io
import math
import pickle
import pickletools
from typing import Any, NoReturn

import numpy as np

from funcbio.experiments.frame.settings import SettingError

OPCODE_NAMES = """
PROTO STOP MARK POP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING SHORT_BINSTRING UNICODE
BINUNICODE TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST EMPTY_LIST APPEND APPENDS DICT EMPTY_DICT SETITEM SETITEMS PUT
BINPUT LONG_BINPUT GET BINGET LONG_BINGET GLOBAL REDUCE BUILD
"""
OPCODES = frozenset(OPCODE_NAMES.split())
"""Instructions that a pickle may hold: those for dicts, lists, numbers, strings and arrays in protocols 0 to 2."""

PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
"""Instructions that store a value in the memo."""


class _Array:
    """Stands in for an array; only arrays of bytes are accepted."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        """Takes version, shape, type, order and content."""
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Bytes) or not isinstance(content, bytes) or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("an array that is not one of bytes")
        if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) != len(content):
            raise pickle.UnpicklingError("an array whose shape does not fit its content")
        self.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Bytes:
    """Stands in for the type of an array of bytes; any further description of the type is ignored."""

    def __setstate__(self, state: Any) -> None:
        """Takes byte order and the like."""


class _Reconstruct:
    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _Dtype:
    __slots__ = ()

    def __call__(self, code: Any, *_: Any) -> _Bytes:
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of type {str(code)[:20]!r} instead of 'u1'")
        return _Bytes()


class _Encode:
    __slots__ = ()

    def __call__(self, text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError("text to be encoded in another way than latin1")
        return text.encode("latin1")


# Instances without attributes: a pickle can call them but not change them.
STANDS_IN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Dtype(),
    ("_codecs", "encode"): _Encode(),
}
STANDS_IN["numpy._core.multiarray", "_reconstruct"] = STANDS_IN["numpy.core.multiarray", "_reconstruct"]
"""Stand-ins for the four names that these files hold; newer releases of numpy spell one of them differently."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Returns the stand-in for a name, and refuses all other names."""
        return STANDS_IN[module_name, global_name]


def unpickle(content: bytes, name: str) -> Any:
    """Reads a pickle of dicts, lists, numbers, strings and arrays of bytes; strings of Python 2 become bytes.

    Nothing that a pickle names is imported or called: four names have a stand-in each, all others are refused, before
    any of it is read.

    Args:
        content: The pickle.
        name: Its name, for messages.

    Returns:
        Its content.

    Raises:
        SettingError: If it holds or asks for anything else, or is damaged.

    Example:
        >>> import pickle
        >>> unpickle(pickle.dumps({"labels": [3, 5]}, protocol=2), "batch")
        {'labels': [3, 5]}
        >>> unpickle(pickle.dumps(print, protocol=2), "batch")
        Traceback (most recent call last):
        ...
        funcbio.experiments.frame.settings.SettingError: batch should hold only ...; found a call of __builtin__.print
    """
    try:
        _look_through(content)
        return _plain(_Unpickler(io.BytesIO(content), encoding="bytes").load())
    except Exception as error:  # A damaged pickle fails in any way.
        reason = str(error) if isinstance(error, pickle.UnpicklingError) else f"damage ({type(error).__name__})"
        should = "only dicts, lists, numbers, strings and arrays of bytes"
        raise SettingError(f"{name} should hold {should}; found {reason}") from None


def _look_through(content: bytes) -> None:
    """Refuses a pickle with instructions that could do anything but make plain values."""
    puts = 0
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name not in OPCODES:
            _refuse(f"the instruction {opcode.name}")
        if opcode.name == "GLOBAL" and tuple(str(argument).split(" ", 1)) not in STANDS_IN:
            _refuse(f"a call of {str(argument).replace(' ', '.')[:60]}")
        if opcode.name in PUTS:
            puts += 1
            if not 0 <= int(str(argument)) < puts + 256:  # The reader makes room for as many as the number says.
                _refuse(f"a memo of {argument} entries")


def _refuse(what: str) -> NoReturn:
    raise pickle.UnpicklingError(what)


def _plain(value: Any) -> Any:
    """Replaces stand-ins by their arrays, at the top or in a dict."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if isinstance(key, str | bytes)}
    return value.value if isinstance(value, _Array) else value
