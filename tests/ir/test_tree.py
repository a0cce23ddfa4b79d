"""The output tree: every structure comes back; anything else is refused with a message."""

from collections import namedtuple

import pytest

from irkit.errors import IRError
from irkit.ir.tree import flatten, rebuild

Point = namedtuple("Point", "x y")


class Leaf:
    pass


A, B, C = Leaf(), Leaf(), Leaf()


@pytest.mark.parametrize(
    "structure",
    [
        A,
        (A,),
        (A, B),
        [A, B],
        [A],
        {"a": A, "b": [B, (C, None)]},
        {1: A, None: B},
        Point(A, [B]),
        (A, 3, "s", True, 1.5),
    ],
)
def test_structures_come_back(structure):
    leaves = []
    encoded = flatten(structure, leaves, Leaf)
    back = rebuild(encoded, leaves)
    assert back == structure
    assert type(back).__name__ == type(structure).__name__


def test_plain_results_need_no_tree():
    assert flatten(A, [], Leaf) == ""
    assert flatten((A, B), [], Leaf) == ""


@pytest.mark.parametrize("bad", [{("a",): A}, {A}, object(), [1j]])
def test_other_containers_are_refused(bad):
    with pytest.raises(IRError, match="outputs: "):
        flatten(bad, [], Leaf)


@pytest.mark.parametrize(
    "tree",
    [
        "1",
        "-1",
        "true",
        '{"x": []}',
        "[0]",
        "{",
        '{"dict": [[0]]}',
        '{"value": [1]}',
        "[" * 100000,
        '{"dict": [[[1], 0]]}',
    ],
)
def test_bad_trees_are_refused(tree):
    with pytest.raises(IRError, match="outputs: "):
        rebuild(tree, ["only"])
