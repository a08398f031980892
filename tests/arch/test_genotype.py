"""Genotypes as text: what is printed is read again, and nothing else is."""

from __future__ import annotations

import pytest

from cnncli.arch.genotype import cell
from cnncli.arch.zoo import darts, nasnet
from cnncli.errors import UsageError


def test_a_genotype_prints_what_cell_reads() -> None:
    for genotype in (*darts.GENOTYPES.values(), *nasnet.GENOTYPES.values()):
        normal, reduce = str(genotype).removeprefix("normal cell\n").split("\nreduction cell\n")
        for text, plan in ((normal, genotype.normal), (reduce, genotype.reduce)):
            *nodes, output = (line.partition(" = ")[2] for line in text.splitlines())
            assert cell(*nodes, output=output) == plan


def test_the_text_of_darts_v2() -> None:
    assert str(darts.GENOTYPES["v2"].normal) == (
        "node1 = sep3x3(before) + sep3x3(last)\n"
        "node2 = sep3x3(before) + sep3x3(last)\n"
        "node3 = sep3x3(last) + skip(before)\n"
        "node4 = skip(before) + dil3x3(node1)\n"
        "output = node1 node2 node3 node4"
    )


def test_without_an_output_the_unread_nodes_are_it() -> None:
    assert cell("skip(before) + skip(last)", "skip(node1) + skip(last)", "skip(last) + skip(last)").output == ("node2", "node3")


@pytest.mark.parametrize(
    ("lines", "output", "said"),
    [
        (("sep3x3(before)",), "", "node1: 'sep3x3\\(before\\)' should read like"),
        (("sep3x3(before) + sep4x4(last)",), "", "operation='sep4x4' is not known"),
        (("skip(before) + skip(node1)",), "", "node1: state='node1' is not known"),
        (("skip(before) + skip(last)",), "node2", "output='node2' is not known"),
        (("skip(before) + skip(last)",), "node1 node1", "each once"),
        ((), "", "should name states"),
    ],
)
def test_other_text_is_refused(lines: tuple[str, ...], output: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cell(*lines, output=output)
