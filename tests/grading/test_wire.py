"""Frames between judge and student: what arrives is what was sent, bounded and in time, or it is an error."""

import contextlib
import json
import math
import socket
import struct
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ganlib.grading import wire


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def there_and_back(value):
    text, chunks = wire.encode(value)
    return wire.decode(text, b"".join(chunks))


def frame(tree, data=b""):
    """A frame as a hostile sender may make it."""
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return struct.pack("!II", len(text), len(data)) + text + data


def alike(a, b):
    """Equal in type, value, dtype, shape; NaN equals itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, (np.ndarray, np.generic)):
        return (
            a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f") and a.shape == b.shape
        )
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


arrays = st.sampled_from(sorted(wire.DTYPES)).flatmap(
    lambda name: hnp.arrays(
        wire.DTYPES[name], hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    )
)
leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), arrays),
    arrays.filter(lambda a: a.size).map(lambda a: a.flat[0]),
    st.text(st.characters(exclude_categories=["Cs"])),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5) | st.integers(-5, 5), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(values)
def test_what_arrives_is_what_was_sent(value):
    assert alike(there_and_back(value), value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=20))
def test_no_bytes_raise_anything_but_wire_errors(text, data):
    with contextlib.suppress(wire.WireError):
        wire.decode(text, data)


trees = st.recursive(
    st.none() | st.integers() | st.floats() | st.sampled_from(["array", "tuple", "dict", "<f8", "\ud800"]),
    lambda t: (
        st.lists(t, max_size=3)
        | st.dictionaries(st.sampled_from(["array", "tuple", "dict", "scalar", "x"]), t, max_size=2)
        | st.builds(
            lambda kind, shape: {"array": [kind, shape]}, st.sampled_from(["<f8", "|b1", "|O8"]), st.lists(t)
        )
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(trees, st.binary(max_size=24))
def test_no_tree_raises_anything_but_wire_errors(tree, data):
    with contextlib.suppress(wire.WireError):
        wire.decode(json.dumps(tree).encode(), data)


def test_arrays_arrive_whole_whatever_their_layout():
    base = np.arange(24.0).reshape(2, 3, 4)
    for array in (
        base[:, ::2],
        base.T,
        np.asfortranarray(base),
        base[..., :0],
        base.astype(">f4"),
        base[0, 0, 1],
    ):
        came = there_and_back(array)
        np.testing.assert_array_equal(came, array)
        assert came.dtype == array.dtype.newbyteorder("=") and came.shape == array.shape
    came = there_and_back(np.float32([1, 2]))
    came += 1  # the test may write into what it got
    assert came.flags.aligned


def test_tensors_arrive_as_arrays():
    torch = pytest.importorskip("torch")
    weight = torch.arange(6.0).reshape(2, 3).requires_grad_()
    for tensor in (weight, weight * 2, weight.T, weight[0, 0], torch.zeros(0, 2), weight > 2, weight.half()):
        came = there_and_back(tensor)
        assert type(came) is np.ndarray
        np.testing.assert_array_equal(came, tensor.detach().numpy())
    short = torch.tensor([1.5, math.inf, math.nan], dtype=torch.bfloat16)
    came = there_and_back(short)
    assert came.dtype == np.float32
    np.testing.assert_array_equal(came, [1.5, math.inf, math.nan])
    for tensor in (
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
    ):
        with pytest.raises(wire.WireError):
            wire.encode(tensor)


class Hostile(np.ndarray):
    def __eq__(self, other):
        return True

    def __array__(self, *args, **kwargs):
        raise AssertionError("asked for an array")

    def __reduce__(self):
        return (print, ("unpickled",))


def test_an_array_with_methods_of_its_own_arrives_as_a_plain_one():
    came = there_and_back([np.arange(3.0).view(Hostile)])
    assert type(came[0]) is np.ndarray and not (came[0] == 7).any()


class AlwaysEqual(dict):
    def __eq__(self, other):
        return True

    __hash__ = None


def test_containers_and_numbers_lose_their_classes():
    class Seven(int):
        def __eq__(self, other):
            return True

    class Text(str):
        def __eq__(self, other):
            return True

    came = there_and_back({"d": AlwaysEqual(a=1), "n": Seven(7), "s": Text("x"), "f": [np.float64(2)]})
    assert [type(came[k]) for k in "dns"] == [dict, int, str] and type(came["f"][0]) is np.float64
    assert came["n"] != 8 and came["s"] != "y"


@pytest.mark.parametrize(
    "value",
    [
        object(),
        len,
        {1, 2},
        b"raw",
        1j,
        np.array([object()]),
        np.array(["text"]),
        np.zeros(1, "M8[s]"),
        2**64,
        {1.5: 0},
        {None: 0},
        {True: 0},
        [[object()]],
        np.zeros(2, [("a", "f4")]),
        np.complex64(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_plain_data_is_refused_by_the_sender(value, pair):
    with pytest.raises(wire.WireError):
        wire.send(pair[0], value)
    wire.send(pair[0], "next")  # nothing of the refused value has been sent
    assert wire.receive(pair[1]) == "next"


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_is_bounded_on_both_sides():
    assert there_and_back(nested(wire.DEPTH - 1)) == nested(wire.DEPTH - 1)
    with pytest.raises(wire.WireError):
        wire.encode(nested(wire.DEPTH + 1))
    for text in (json.dumps(nested(wire.DEPTH + 1)), "[" * 100_000 + "]" * 100_000):
        with pytest.raises(wire.WireError):
            wire.decode(text.encode(), b"")
    loop = []
    loop.append(loop)
    with pytest.raises(wire.WireError):
        wire.encode(loop)


def test_the_number_of_items_is_bounded():
    """A list of empty lists takes thirty times the memory of its text."""
    with pytest.raises(wire.WireError, match="items"):
        wire.decode(b"[" + b"[]," * wire.ITEMS + b"0]", b"")


@pytest.mark.parametrize(
    ("tree", "data"),
    [
        (b"no json", b""),
        (b"\xff", b""),
        (["a"], b"left over"),
        ({"array": ["<f8", [2]]}, b"8 bytes."),
        ({"array": ["<f8", [10**30]]}, b""),
        ({"array": ["<f8", [0, 10**30]]}, b""),
        ({"array": ["<f8", [-1, -1]]}, b"8 bytes."),
        ({"array": ["<f8", [True]]}, b"8 bytes."),
        ({"array": ["<f8", [1.0]]}, b"8 bytes."),
        ({"array": ["<f8", [1] * 100]}, b"8 bytes."),
        ({"array": ["|O8", [1]]}, b"8 bytes."),
        ({"array": ["<U2", [1]]}, b"8 bytes."),
        ({"array": ["<f8", [1]], "more": 1}, b"8 bytes."),
        ({"scalar": "<c8"}, b"8 bytes."),
        ({"pickle": "cos\nsystem"}, b""),
        ({"dict": [[[], 1]]}, b""),
        ({"dict": [[1.5, 1]]}, b""),
        ({"dict": [["key"]]}, b""),
        ({"dict": {"key": 1}}, b""),
        ({"tuple": 3}, b""),
        ({}, b""),
        (b'"\\ud800"', b""),
        (b'{"dict": [["\\ud800", 1]]}', b""),
        (b"1" * 5000, b""),
        (b"18446744073709551616", b""),
    ],
)
def test_forged_frames_are_errors(tree, data, pair):
    pair[0].sendall(frame(tree, data))
    with pytest.raises(wire.WireError):
        wire.receive(pair[1])


def test_an_array_beyond_the_data_is_told():
    with pytest.raises(wire.WireError, match="claims more bytes than there are"):
        wire.decode(b'{"array": ["<f8", [1000000000000]]}', b"8 bytes.")


def test_a_boolean_is_0_or_1_whatever_byte_came():
    came = wire.decode(b'{"array": ["|b1", [3]]}', b"\x00\x01\xfe")
    assert came.view(np.uint8).tolist() == [0, 1, 1]


def test_sizes_are_refused_before_anything_is_read(pair):
    for head, said in (
        ((100, 0), "100 bytes of text"),
        ((10, 1000), "1,010 bytes"),
        ((2**32 - 1, 2**32 - 1), "text"),
    ):
        pair[0].sendall(struct.pack("!II", *head))
        with pytest.raises(wire.WireError, match=said):
            wire.receive(pair[1], limit=1000, text_limit=50)


def test_a_byte_now_and_then_does_not_stretch_the_deadline(pair):
    def trickle():
        for byte in frame([0] * 1000):
            time.sleep(0.02)
            try:
                pair[0].sendall(bytes([byte]))
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    start = time.monotonic()
    with pytest.raises(wire.Late):
        wire.receive(pair[1], deadline=start + 0.3)
    assert time.monotonic() - start < 2
    pair[1].close()
    thread.join()


def test_who_does_not_read_is_given_up(pair):
    with pytest.raises(wire.Late):
        wire.send(pair[0], np.zeros(10**7), deadline=time.monotonic() + 0.2)
    with pytest.raises(wire.Late):
        wire.receive(pair[0], deadline=time.monotonic() - 1)


def test_a_closed_connection_is_told(pair):
    pair[0].sendall(frame(["half"])[:6])
    pair[0].close()
    with pytest.raises(wire.Closed):
        wire.receive(pair[1])
    with pytest.raises(wire.Closed):
        wire.send(pair[1], np.zeros(10**6))


def test_large_values_pass_between_processes_that_trust_each_other(pair):
    value = {"text": "x" * (wire.TEXT_LIMIT + 1), "none": None}
    thread = threading.Thread(target=wire.send, args=(pair[0], wire.to_bytes(value)))
    thread.start()
    assert wire.from_bytes(wire.receive(pair[1])) == value
    thread.join()
