"""Papers: every loss that names one has it, and BibTeX is whole."""

from __future__ import annotations

import re

import pytest

from mmpo.citations import CITATIONS, bibtex, papers_of, papers_used
from mmpo.loss_table import LOSS_TABLE


@pytest.mark.parametrize("loss", [name for name, entry in LOSS_TABLE.items() if entry.paper])
def test_every_paper_of_a_loss_can_be_cited(loss: str) -> None:
    papers = papers_of(loss)
    assert papers, f"{loss} names a paper without an arXiv id"
    assert not [paper for paper in papers if paper not in CITATIONS]


def test_entries_are_whole_and_their_keys_differ() -> None:
    keys = [paper.key for paper in CITATIONS.values()]
    assert len(set(keys)) == len(keys)
    for number, paper in CITATIONS.items():
        assert re.fullmatch(r"\d{4}\.\d{5}", number)
        assert paper.year == 2000 + int(number[:2]), "the year of the first version is in the arXiv id"
        surname = paper.authors[0].split()[-1].lower()
        assert paper.key.startswith((surname, paper.authors[0].split()[1].lower())), paper.key
        assert str(paper.year) in paper.key
        assert all(len(name.split()) >= 2 for name in paper.authors)


def test_bibtex_of_two_papers() -> None:
    text = bibtex(["2408.09834", "2311.12908"])
    assert text.count("@misc{") == 2
    assert text.count("{") == text.count("}")
    assert "  author = {Shiming Xie and Hong Chen and Fred Yu and Zeye Sun and Xiuyu Wu and Yingfan Hu}," in text
    assert "  eprint = {2311.12908}," in text
    assert "  note = {CVPR 2024}," in text


def test_an_unknown_paper_is_refused() -> None:
    with pytest.raises(ValueError, match=r"9999\.00000"):
        bibtex(["9999.00000"])


def test_a_run_cites_what_it_used_once() -> None:
    assert papers_used("dpo", lora=True) == ["2305.18290", "2311.12908", "2106.09685"]
    assert papers_used("ipo", lora=False) == ["2310.12036", "2311.12908"]
    assert papers_used("sft", lora=False) == []
    assert papers_used("a loss of another package", lora=True) == ["2106.09685"]
