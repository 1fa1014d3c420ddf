"""DLPack capsules: memory of a device as libraries of arrays pass it on, without a copy.

Layouts as in DLPack's ``dlpack.h``, of version 1.0 and of the time before it had versions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

CUDA = 2  # of DLDeviceType
READ_ONLY = 1  # DLPACK_FLAG_BITMASK_READ_ONLY
CODES = {"i": 0, "u": 1, "f": 2}  # DLDataTypeCode, by NumPy's kind
PLAIN, VERSIONED = b"dltensor", b"dltensor_versioned"


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Plain(ctypes.Structure):
    """DLManagedTensor."""

    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


def _prototype(name: str, *types: Any) -> Any:
    return ctypes.PYFUNCTYPE(*types)((name, ctypes.pythonapi))


_new = _prototype("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Deleter)
_is_valid = _prototype("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer = _prototype("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)

# What capsules point to, with their owners, by its address: C code holds them, until it calls the deleter.
_lent: dict[int, tuple[Any, ...]] = {}


def _delete(address: int) -> None:
    """Let go of what was lent; called by whoever took it out of its capsule."""
    _lent.pop(address, None)


def _destroy(capsule: int) -> None:
    """Let go of what nobody took out of its capsule: who does renames it."""
    for name in (PLAIN, VERSIONED):
        if _is_valid(capsule, name):
            _lent.pop(_pointer(capsule, name), None)


_deleter, _destructor = _Deleter(_delete), _Deleter(_destroy)


def capsule(
    address: int,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    device: tuple[int, int],
    owner: object,
    *,
    versioned: bool,
) -> object:
    """Return a capsule of a C-contiguous array at ``address`` of a ``device`` (type, number).

    ``owner`` is held until the last who uses the memory lets go of it. With ``versioned`` it says
    that the memory must not be written to, which older readers of capsules cannot be told.
    """
    numbers = ctypes.c_int64 * len(shape)
    steps = [int(np.prod(shape[at + 1 :], dtype=np.int64)) for at in range(len(shape))]
    sides, strides = numbers(*shape), numbers(*steps)
    tensor = _Tensor(
        address, *device, len(shape), CODES[dtype.kind], 8 * dtype.itemsize, 1, sides, strides, 0
    )  # fmt: skip
    managed = (
        _Versioned(1, 0, None, _deleter, READ_ONLY, tensor) if versioned else _Plain(tensor, None, _deleter)
    )
    place = ctypes.addressof(managed)
    _lent[place] = managed, sides, strides, owner
    return _new(place, VERSIONED if versioned else PLAIN, _destructor)
