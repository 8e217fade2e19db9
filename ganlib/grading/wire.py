"""How judge and student talk: data in bounded frames, never code.

A frame is two lengths (of the text, of the bytes), a JSON text, and the raw bytes of the arrays that the
text names, one behind the other. The text holds None, bool, int, float (NaN and infinities, too), str and
lists as JSON has them, and everything else as an object with one key:

    {"tuple": [...]}    {"dict": [[key, value], ...]}    {"array": [dtype, shape]}    {"scalar": dtype}

There is no pickle, and no type of the sender's own: a torch tensor arrives as a numpy array; an object with
a hostile `__eq__` or `__array__` is converted, or refused, in the sender's process. The receiver believes
nothing: lengths are checked before memory is taken, dtypes against a list, shapes against the bytes that
are there, and one deadline covers the whole frame, so that a byte per second buys no time.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import sys
import time
from typing import Any

import numpy as np

_KINDS = ("<f2", "<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "|b1")
DTYPES = {name: np.dtype(name) for name in _KINDS}
LIMIT = 64 * 2**20  # bytes of a frame
TEXT_LIMIT = 4 * 2**20  # bytes of its JSON text: what is longer belongs into an array
TRUSTED = 2**31  # the limit among the grader's own processes
ITEMS = 200_000  # commas and brackets in the text: a list of empty lists grows thirtyfold in memory
DEPTH = 32  # containers inside one another
_LENGTHS = struct.Struct("!II")


class WireError(Exception):
    """A value that cannot travel, or a frame that is not well formed."""


class Closed(WireError):
    """The other process has closed its end, most likely because it ended."""


class Late(WireError):
    """The deadline passed before the whole frame was through."""


def to_bytes(value: Any) -> np.ndarray:
    """A JSON value of any length as an array, for which `TEXT_LIMIT` does not count."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def from_bytes(packed: np.ndarray) -> Any:
    """What `to_bytes` packed."""
    return json.loads(packed.tobytes())


# --- values <-> text and bytes ---------------------------------------------------------------------


def encode(value: Any) -> tuple[bytes, list[bytes]]:
    """The JSON text of a value and the bytes of its arrays; WireError for what is no plain data."""
    chunks: list[bytes] = []
    text = json.dumps(_flatten(value, chunks, DEPTH), ensure_ascii=True, separators=(",", ":"))
    return text.encode("ascii"), chunks


def _flatten(value: Any, chunks: list[bytes], depth: int) -> Any:
    if depth == 0:
        raise WireError(f"more than {DEPTH} containers inside one another")
    if isinstance(value, np.generic):
        array = np.asarray(value)
        return {"scalar": _put(array, chunks)}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise WireError("an integer that does not fit into 64 bits")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value).encode("utf-8", "replace").decode("utf-8")  # no lone surrogates
    if isinstance(value, (list, tuple)):
        items = [_flatten(item, chunks, depth - 1) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise WireError(f"a dict key of type {type(key).__name__}: only str and int can travel")
        return {"dict": [[key, _flatten(item, chunks, depth - 1)] for key, item in value.items()]}
    array = _as_array(value)
    return {"array": [_put(array, chunks), list(array.shape)]}


def _as_array(value: Any) -> np.ndarray:
    torch = sys.modules.get("torch")  # whoever has a tensor has imported it
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach()
        if value.dtype == torch.bfloat16:  # numpy has no such type; float32 holds every one of its numbers
            value = value.float()
        try:
            return value.cpu().resolve_conj().resolve_neg().numpy()
        except (TypeError, RuntimeError, NotImplementedError) as error:
            raise WireError(f"a tensor that cannot become an array: {error}") from None
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    raise WireError(
        f"{type(value).__name__} cannot travel: only arrays, tensors, numbers, strings, lists and dicts"
    )


def _put(array: np.ndarray, chunks: list[bytes]) -> str:
    """Appends the bytes of the array in C order and returns its dtype's name."""
    kind = array.dtype.newbyteorder("<").str
    if kind not in DTYPES:
        raise WireError(f"an array of dtype {array.dtype}: only floats, integers and booleans can travel")
    chunks.append(array.astype(DTYPES[kind], order="C", copy=False).tobytes())
    return kind


def decode(text: bytes, data: bytes | bytearray) -> Any:
    """The value of a frame; WireError unless text and data fit each other exactly."""
    if sum(map(text.count, (b",", b"[", b"{"))) > ITEMS:
        raise WireError(f"more than {ITEMS:,} items: many numbers should be an array")
    try:
        tree = json.loads(text)
        value, used = _rebuild(tree, memoryview(data), 0, DEPTH)
    except (ValueError, RecursionError, OverflowError) as error:
        raise WireError(f"a malformed frame: {type(error).__name__}") from None
    if used != len(data):
        raise WireError("a malformed frame: bytes that no array claims")
    return value


def _rebuild(tree: Any, data: memoryview, used: int, depth: int) -> tuple[Any, int]:
    if depth == 0:
        raise WireError(f"a malformed frame: more than {DEPTH} containers inside one another")
    if isinstance(tree, list):
        items = []
        for item in tree:
            value, used = _rebuild(item, data, used, depth - 1)
            items.append(value)
        return items, used
    if isinstance(tree, dict):
        match tree:
            case {"tuple": list(items), **rest} if not rest:
                value, used = _rebuild(items, data, used, depth)
                return tuple(value), used
            case {"dict": list(pairs), **rest} if not rest:
                return _rebuild_dict(pairs, data, used, depth)
            case {"array": [str(kind), list(shape)], **rest} if not rest:
                return _take(kind, shape, data, used)
            case {"scalar": str(kind), **rest} if not rest:
                array, used = _take(kind, [], data, used)
                return array[()], used
        raise WireError("a malformed frame: an object of no known kind")
    if isinstance(tree, str):
        tree.encode("utf-8")  # a lone surrogate raises UnicodeEncodeError, a ValueError
    if isinstance(tree, int) and not -(2**63) <= tree < 2**64:
        raise WireError("a malformed frame: an integer that does not fit into 64 bits")
    return tree, used


def _rebuild_dict(pairs: list, data: memoryview, used: int, depth: int) -> tuple[dict, int]:
    found = {}
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and type(pair[0]) in (str, int)):
            raise WireError("a malformed frame: a dict key that is neither str nor int")
        key, used = _rebuild(pair[0], data, used, depth)
        found[key], used = _rebuild(pair[1], data, used, depth - 1)
    return found, used


def _take(kind: str, shape: list, data: memoryview, used: int) -> tuple[np.ndarray, int]:
    if kind not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
        raise WireError("a malformed frame: an array of no known dtype or shape")
    end = used + math.prod(shape) * DTYPES[kind].itemsize
    if end > len(data):
        raise WireError("a malformed frame: an array that claims more bytes than there are")
    if kind == "|b1":  # a byte other than 0 and 1 would be a boolean that is neither
        flat = np.frombuffer(data[used:end], np.uint8) != 0
    else:
        flat = np.frombuffer(data[used:end], DTYPES[kind]).copy()  # aligned, and the test may write into it
    return flat.reshape(shape), end


# --- frames on a socket ----------------------------------------------------------------------------


def send(sock: socket.socket, value: Any, deadline: float | None = None) -> None:
    """Sends one value; deadline is a time of `time.monotonic()`, None waits for ever.

    Raises WireError for a value that cannot travel (nothing has been sent then), Closed, Late.
    """
    text, chunks = encode(value)
    size = sum(map(len, chunks))
    if max(len(text), size) >= 2**32:
        raise WireError("a value of more than 4 GiB")
    _wait(sock, deadline)
    try:
        sock.sendall(_LENGTHS.pack(len(text), size) + text)  # sendall's timeout covers the whole call
        for chunk in chunks:
            _wait(sock, deadline)
            sock.sendall(chunk)
    except TimeoutError:
        raise Late("the other process does not read") from None
    except OSError:
        raise Closed("the other process has closed the connection") from None


def receive(
    sock: socket.socket, limit: int = LIMIT, deadline: float | None = None, text_limit: int = TEXT_LIMIT
) -> Any:
    """Receives one value of at most `limit` bytes, of them `text_limit` of text, before the deadline.

    Raises WireError for whatever is larger or malformed (the stream is then out of step: close it), and
    Closed, Late.
    """
    text_size, size = _LENGTHS.unpack(_read(sock, _LENGTHS.size, deadline))
    if text_size > text_limit:
        raise WireError(
            f"a frame with {text_size:,} bytes of text; {text_limit:,} are allowed outside of arrays"
        )
    if text_size + size > limit:
        raise WireError(f"a frame of {text_size + size:,} bytes; {limit:,} are allowed")
    text = _read(sock, text_size, deadline)
    return decode(bytes(text), _read(sock, size, deadline))


def _read(sock: socket.socket, size: int, deadline: float | None) -> bytearray:
    buffer, done = bytearray(size), 0
    while done < size:
        _wait(sock, deadline)
        try:
            came = sock.recv_into(memoryview(buffer)[done:])
        except TimeoutError:
            raise Late("no whole answer in time") from None
        except OSError:
            came = 0
        if came == 0:
            raise Closed("the other process has closed the connection")
        done += came
    return buffer


def _wait(sock: socket.socket, deadline: float | None) -> None:
    """Lets the next operation on the socket take until the deadline."""
    if deadline is None:
        sock.settimeout(None)
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise Late("out of time")
    sock.settimeout(left)
