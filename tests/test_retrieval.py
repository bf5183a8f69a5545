"""The pure parts of retrieval: exact search, masks, and which completion is taken. No model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmpo.data.retrieval import Neighbour, faiss_search, neighbours, torch_search, unit_rows
from mmpo.data.retrieval_accept import Accepted, Asked, find_rejected, words_cosine
from mmpo.data.retrieval_masks import content_spans, joined_spans, mask_response, sentence_spans, spans_of_masked


def features(count: int, seed: int) -> Tensor:
    """[count, 7] random rows of length 1."""
    return unit_rows(torch.randn(count, 7, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("chunk", [1, 5, 64, 10_000])
def test_search_finds_what_sorting_all_cosines_finds(chunk: int) -> None:
    queries, index = features(9, 0), features(101, 1)
    cosines, places = torch_search(queries, index, 6, chunk=chunk)
    wanted, order = (queries.double() @ index.double().T).sort(dim=1, descending=True)
    assert torch.equal(places, order[:, :6])
    torch.testing.assert_close(cosines.double(), wanted[:, :6], atol=1e-6, rtol=0)


def test_search_of_few_images_gives_them_all_and_equal_ones_in_their_order() -> None:
    index = unit_rows(torch.tensor([[1.0, 1.0], [2.0, 2.0], [1.0, 0.0]]))
    cosines, places = torch_search(index[:1], index, 10, chunk=1)
    assert places.tolist() == [[0, 1, 2]]
    assert cosines[0].tolist() == pytest.approx([1, 1, 0.5**0.5])
    assert torch_search(index[:1], index[:0], 3)[0].shape == (1, 0)


def test_faiss_finds_the_same_where_it_is_installed() -> None:
    queries, index = features(9, 0), features(101, 1)
    try:
        cosines, places = faiss_search(queries, index, 6)
    except ValueError as error:
        assert "mmpo[retrieval]" in str(error)  # noqa: PT017  (either outcome is right; which one depends on the machine)
        return
    other = torch_search(queries, index, 6)
    assert torch.equal(places, other[1])
    torch.testing.assert_close(cosines, other[0])


def test_features_without_a_direction_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 is all zero"):
        unit_rows(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match=r"row 0 .* not finite"):
        unit_rows(torch.tensor([[torch.nan, 0.0]]))
    with pytest.raises(ValueError, match=r"expected \[N, D\]"):
        unit_rows(torch.ones(3))


def test_neighbours_are_other_images_each_once() -> None:
    """Names: the query a twice, b twice; nine copies of the query before the first other image ask for more."""
    index = unit_rows(torch.tensor([[1.0, 0.0]] * 9 + [[1.0, 0.1]] * 2 + [[1.0, 1.0], [0.0, 1.0]]))
    names = ["a"] * 9 + ["b", "b", "c", "d"]
    (found,) = neighbours(index[:1], index, 2, names=names, own=["a"])
    assert [near.place for near in found] == [9, 11]
    (found,) = neighbours(index[:1], index, 9, names=names, own=["a"])
    assert [near.place for near in found] == [9, 11, 12]
    (found,) = neighbours(index[:1], index, 2, names=[*"ABCDEFGHI", "b", "b", "c", "d"], own=["a"], copy_cosine=0.9999)
    assert [near.place for near in found] == [9, 11]
    (found,) = neighbours(index[:1], index[:9], 2, names=names[:9], own=["a"])
    assert found == []


def test_masks_hide_content_and_keep_the_words_around_it() -> None:
    text = "The red cat and his two dogs are on the old-fashioned sofa, left of a TV. It's sunny."
    masked = "The [MASK] and his [MASK] are on the [MASK], [MASK] of a [MASK]. It's [MASK]."
    assert mask_response(text, content_spans) == masked
    assert mask_response("a red circle above a blue square", content_spans) == "a [MASK] a [MASK]"
    assert mask_response("Yes, there is.", content_spans) == "Yes, there is."
    assert mask_response("Élan, naïve", [(0, 4)]) == "[MASK], naïve"
    assert mask_response("abc def", [(4, 7), (0, 3)]) == "[MASK]"
    assert joined_spans("abcdef", [(0, 3), (2, 5)]) == [(0, 5)]
    for wrong in ((3, 3), (-1, 2), (2, 8)):
        with pytest.raises(ValueError, match=r"does not lie in an answer of 7"):
            mask_response("abc def", [wrong])


def test_a_sentence_is_masked_whole_where_something_of_it_is() -> None:
    text = "There is a cat. Yes, it is so!  Its fur is 3.5 cm long?"
    spans = sentence_spans(text, content_spans(text))
    assert [text[slice(*span)] for span in spans] == ["There is a cat.", "Its fur is 3.5 cm long?"]
    assert mask_response(text, spans) == "[MASK] Yes, it is so!  [MASK]"


@given(st.text(alphabet="ab .M", min_size=1, max_size=12), st.data())
def test_what_was_masked_is_read_back(text: str, data: st.DataObject) -> None:
    """Any spans that are found, masked again, give the masked text: the spans themselves may be others."""
    text = f"x{text}y"
    cuts = data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=6, unique=True))
    cuts = sorted(cuts)[: len(cuts) // 2 * 2]
    spans = joined_spans(text, list(zip(cuts[::2], cuts[1::2], strict=True)))
    masked = mask_response(text, spans)
    found = spans_of_masked(text, masked)
    parts, at = [], 0
    for start, stop in found:
        assert start < stop
        parts += [text[at:start], "[MASK]"]
        at = stop
    assert "".join([*parts, text[at:]]).strip() == masked.strip()


@pytest.mark.parametrize(
    "masked", ["a cat", "a [MASK] runs", "A [MASK].", "a big [MASK]cat.", "[MASK]a big cat.", "a [MASK] dog [MASK]."]
)
def test_a_masked_text_that_is_not_the_answers_is_refused(masked: str) -> None:
    with pytest.raises(ValueError, match="masked answer"):
        spans_of_masked("a big cat.", masked)


def test_images_are_tried_in_order_until_one_says_something_else() -> None:
    near = [Neighbour(7, 0.9), Neighbour(3, 0.8), Neighbour(5, 0.7)]
    rows = [Asked(0, "cat", "[MASK]", near), Asked(1, "dog", "[MASK]", near[:2]), Asked(2, "cow", "[MASK]", [])]
    said = {(0, 7): "", (0, 3): "a [MASK]", (0, 5): "pig", (1, 7): "dog", (1, 3): "dog"}
    calls: list[list[tuple[int, int]]] = []

    def complete(asked: Sequence[Asked], images: Sequence[Neighbour]) -> list[str]:
        calls.append([(one.row, image.place) for one, image in zip(asked, images, strict=True)])
        return [said[key] for key in calls[-1]]

    def alike(ones: Sequence[str], others: Sequence[str]) -> list[float]:
        return [0.95 if one == other else 0.9499 for one, other in zip(ones, others, strict=True)]

    found = find_rejected(rows, complete, alike, tau=0.95)
    assert found == [Accepted("pig", near[2], 0.9499, 3, ("empty", "masked")), ("alike", "alike"), ()]
    assert calls == [[(0, 7), (1, 7)], [(0, 3), (1, 3)], [(0, 5)]]
    calls.clear()
    assert find_rejected(rows[1:2], complete, alike, tau=1.0) == [Accepted("dog", near[0], 0.95, 1)]
    assert len(calls) == 1
    assert find_rejected([], complete, alike, tau=1.0) == []


def test_a_similarity_that_is_no_number_accepts_nothing() -> None:
    rows = [Asked(0, "cat", "[MASK]", [Neighbour(0, 1.0)])]
    assert find_rejected(rows, lambda *_: ["dog"], lambda *_: [float("nan")], tau=0.95) == [("alike",)]


def test_the_cosine_of_words_by_hand() -> None:
    """(2, 1) and (1, 1): 3 / (√5 · √2)."""
    assert words_cosine(["A cat, a", "cat", "", ""], ["a CAT", "dog", "x", "!"]) == pytest.approx(
        [3 / 10**0.5, 0, 0, 1]
    )
