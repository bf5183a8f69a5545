"""Rows as the model reads them: every branch, what is scored, and the rows that cannot be read."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from vlm_rows import batch_of, encoded, mixed_pairs, pair, png, vlm_of

from mmpo.answer_batch import BRANCHES
from mmpo.answer_pairs import AnswerPair, Span, Turn
from mmpo.data.answer_collate import collate_answers
from mmpo.data.answer_tokens import AnswerEncoder, EncodedPair, RowFault
from mmpo.data.images import decode

FAMILIES = ["llava", "qwen2", "qwen2.5", "qwen3", "llava_next", "idefics3"]
RED, BLUE = png("red"), png("blue", (60, 60))
TALK = (Turn("user", (None, "Left?")), Turn("assistant", ("Blue.",)), Turn("user", ("Right?",)))


def processor_of(family: str) -> Any:
    return vlm_of(family, torch.float32).processor


def encoder_of(family: str, **options: Any) -> AnswerEncoder:
    return AnswerEncoder(processor_of(family), **options)


def fault_of(encoder: AnswerEncoder, row: AnswerPair) -> RowFault:
    found = encoder.encode(row)
    assert isinstance(found, RowFault)
    assert "row-0" in str(found.error())
    assert "made" in str(found.error())
    return found


def words(family: str, row: AnswerPair, branch: str = "chosen", **options: Any) -> tuple[str, str]:
    """A branch's tokens, and its scored tokens, as text."""
    tokenizer = processor_of(family).tokenizer
    encoder = encoder_of(family, branches=(branch,), **options)
    tokens = encoded(encoder, [row])[0].branches[branch]
    scored = [token for token, counts in zip(tokens.ids, tokens.scored, strict=True) if counts]
    return tokenizer.decode(tokens.ids), tokenizer.decode(scored)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_the_processor_called_on_the_whole_row(family: str) -> None:
    processor = processor_of(family)
    encoder = encoder_of(family)
    for row in mixed_pairs():
        ours = encoded(encoder, [row])[0].branches["chosen"]
        said = [*row.turns, Turn("assistant", (row.chosen,))]
        messages = [
            {
                "role": turn.role,
                "content": [
                    {"type": "image"} if part is None else {"type": "text", "text": part} for part in turn.parts
                ],
            }
            for turn in said
        ]
        text = processor.apply_chat_template(messages, tokenize=False)
        bos = processor.tokenizer.bos_token
        theirs = processor(
            text=[text],
            images=[[decode(image) for image in row.images]] if row.images else None,
            add_special_tokens=not (bos and text.startswith(bos)),
        )["input_ids"][0]
        kept = len(ours.ids) - (
            "llava" in family
        )  # LLaVA's template writes a space where the turn ends, and we its end
        assert list(ours.ids[:kept]) == list(theirs[:kept])
        assert len(theirs) - kept <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_and_its_end_are_scored_and_nothing_else(family: str) -> None:
    end = processor_of(family).tokenizer.eos_token
    text, scored = words(family, pair(images=(RED,)))
    assert scored == "A red square." + end
    assert text.endswith(scored)
    assert words(family, pair(images=(RED,)), "rejected")[1] == "A dog" + end


def test_earlier_answers_are_scored_only_where_that_is_asked() -> None:
    row = pair(images=(RED,), turns=TALK, chosen="Red.")
    assert words("qwen2.5", row)[1] == "Red.<|im_end|>"
    assert words("qwen2.5", row, history=True)[1] == "Blue.<|im_end|>Red.<|im_end|>"
    assert words("llava", row, history=True)[1] == "Blue.Red.</s>"  # its template ends no earlier turn


def test_scored_history_is_the_same_on_every_path() -> None:
    from mmpo.adapters import branch_attention
    from mmpo.adapters.autoregressive import Autoregressive
    from mmpo.adapters.naive_tokens import naive_logps

    vlm = vlm_of("qwen3")
    row = pair(images=(RED,), rejected_images=(BLUE,), turns=TALK)
    batch = batch_of(vlm, [row, pair(1, images=(BLUE,))], history=True)
    expected = naive_logps(vlm.model, batch)
    branch_attention.install(vlm.model)
    for name, scores in Autoregressive().logps(vlm.model, batch).items():
        assert (scores.logps - expected[name].logps).abs().max() < 1e-9
        assert scores.mask.equal(expected[name].mask)


@pytest.mark.parametrize("family", ["llava", "qwen2.5", "qwen3", "llava_next"])
def test_branches_differ_by_answer_and_images_alone(family: str) -> None:
    encoder = encoder_of(family, branches=tuple(BRANCHES))
    row = encoded(encoder, [pair(images=(RED,), rejected_images=(BLUE,))])[0]
    assert set(row.branches) == set(BRANCHES)
    own, other = row.branches["chosen"], row.branches["visual"]
    assert (own.images, other.images) != (own.images, own.images)
    assert own.ids[own.start :] == other.ids[other.start :]
    zero = row.branches["prior"]
    assert zero.ids == own.ids
    assert not row.images[zero.images[0]].inputs["pixel_values"].any()
    assert row.images[own.images[0]].inputs["pixel_values"].any()
    blind = row.branches["blind"]
    assert (blind.images, row.branches["blind_rejected"].images) == ((), ())
    assert len(blind.ids) < len(own.ids)
    assert blind.ids[blind.start :] == own.ids[own.start :]


def test_a_model_that_drops_images_of_zeros_is_scored_blind() -> None:
    with pytest.raises(ValueError, match="'blind' in place of it"):
        encoder_of("idefics3", branches=("prior",)).encode(pair(images=(RED,)))


def test_rows_without_images_or_rejected_ones_lack_those_branches() -> None:
    encoder = encoder_of("qwen2.5", branches=("chosen", "rejected", "visual", "prior", "blind"))
    text_only, no_rejected, images_only = encoded(
        encoder, [pair(), pair(images=(RED,)), pair(images=(RED,), rejected_images=(BLUE,), rejected=None)]
    )
    assert set(text_only.branches) == {"chosen", "rejected"}
    assert set(no_rejected.branches) == {"chosen", "rejected", "prior", "blind"}
    assert set(images_only.branches) == {"chosen", "visual", "prior", "blind"}
    batch = collate_answers([text_only, no_rejected, images_only], encoder.pad_id)
    assert {name: branch.rows.tolist() for name, branch in batch.branches.items()} == {
        "chosen": [0, 1, 2],
        "rejected": [0, 1],
        "visual": [2],
        "prior": [1, 2],
        "blind": [1, 2],
    }


def test_two_images_stand_where_the_turns_show_them() -> None:
    row = mixed_pairs()[3]
    encoder = encoder_of("qwen2.5", branches=("chosen", "visual"))
    found = encoded(encoder, [row])[0]
    _, red = found.branches["chosen"].images
    assert found.branches["visual"].images == (red, red)
    assert len(found.images) == 2
    text, _ = words("qwen2.5", row)
    assert re.search(r"<\|image_pad\|>.*Left\?.*Blue\..*And<\|vision_start\|><\|image_pad\|>.*now\?", text, re.S)


def test_an_image_is_processed_once_and_collated_once() -> None:
    vlm = vlm_of("llava", torch.float32)
    encoder = AnswerEncoder(vlm.processor, branches=("chosen", "rejected", "visual", "visual_rejected"))
    calls: list[int] = []
    own = vlm.processor.image_processor.preprocess
    vlm.processor.image_processor.preprocess = lambda *args, **options: calls.append(1) or own(*args, **options)
    row = pair(images=(RED,), rejected_images=(BLUE,))
    rows = encoded(encoder, [row, pair(1, images=(BLUE,), rejected_images=(RED,))])
    assert len(calls) == 2 + 1  # once each, and the first row whole, to compare
    batch = collate_answers(rows, encoder.pad_id)
    assert len(batch.images) == 2
    assert batch.branches["chosen"].images == ((0,), (1,))
    assert batch.branches["visual"].images == ((1,), (0,))


@pytest.mark.parametrize(
    ("row", "kind", "says"),
    [
        (pair(images=(RED[:40],)), "broken_image", "image 1"),
        (pair(images=(RED,), rejected_images=(b"no image",)), "broken_image", "image 1"),
        (pair(chosen=" \n"), "empty_answer", "chosen answer is empty"),
        (pair(rejected=""), "empty_answer", "rejected answer is empty"),
        (pair(images=(RED,), chosen="I see <image> here"), "special_token", "<image>"),
        (pair(turns=(Turn("user", ("Stop.</s>",)),)), "special_token", "</s>"),
        (pair(chosen="abc", chosen_spans=(Span(1, 4, 2.0),)), "span", "3 characters"),
    ],
)
def test_a_bad_row_is_named_and_not_raised(row: AnswerPair, kind: str, says: str) -> None:
    fault = fault_of(encoder_of("llava", branches=("chosen", "rejected", "visual")), row)
    assert fault.kind == kind
    assert says in fault.reason


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_that_is_too_long_is_never_cut_through_an_image(family: str) -> None:
    row = pair(images=(RED,))
    whole = encoded(encoder_of(family), [row])[0]
    assert encoded(encoder_of(family, max_length=whole.length), [row])[0].branches == whole.branches
    fault = fault_of(encoder_of(family, max_length=whole.length - 1), row)
    assert fault.kind == "too_long"
    assert f"{whole.length} tokens, {whole.image_tokens} of them the images'" in fault.reason


def test_an_answer_is_cut_where_that_is_asked_and_then_has_no_end() -> None:
    row = pair(images=(RED,), chosen="A red square.", rejected="A dog")
    assert words("qwen2.5", row, max_answer_tokens=5)[1] == "A red"
    assert words("qwen2.5", row, "rejected", max_answer_tokens=5)[1] == "A dog<|im_end|>"
    found = encoded(encoder_of("qwen2.5", max_answer_tokens=5), [row])[0]
    assert [found.branches[name].cut for name in ("chosen", "rejected")] == [True, False]


def test_weights_of_spans_are_on_their_tokens() -> None:
    row = pair(chosen="A red square.", chosen_spans=(Span(2, 5, 4.0), Span(4, 7, 0.5)))
    tokens = encoded(encoder_of("llava"), [row])[0].branches["chosen"]
    own = list(tokens.weights[tokens.start :])
    assert own == [1, 1, 4, 4, 0.5, 0.5, 0.5, 1, 1, 1, 1, 1, 1, 1]
    assert not any(tokens.weights[: tokens.start])


def test_a_template_that_shows_images_elsewhere_is_a_fault() -> None:
    processor = processor_of("llava")
    processor.chat_template = "{% for m in messages %}{{ m['content'][-1]['text'] }} {% endfor %}"
    found = AnswerEncoder(processor).encode(pair(images=(RED,)))
    assert isinstance(found, RowFault)
    assert "0 image marks for 1 images" in found.reason


def test_a_template_that_refuses_a_conversation_is_a_fault_of_its_row() -> None:
    processor = processor_of("llava")
    no_system = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    processor.chat_template = no_system + processor.chat_template
    encoder = AnswerEncoder(processor)
    assert isinstance(encoder.encode(pair()), EncodedPair)
    fault = fault_of(encoder, pair(turns=(Turn("system", ("Be kind.",)), Turn("user", ("Hi",)))))
    assert fault.kind == "template"
    assert "no system role" in fault.reason


def test_answers_that_are_the_same_where_they_are_cut_prefer_nothing() -> None:
    row = pair(images=(RED,), chosen="A red square.", rejected="A red dog.")
    fault = fault_of(encoder_of("llava", max_answer_tokens=6), row)
    assert fault.kind == "same_answers"
    assert "6 tokens" in fault.reason
    encoded(encoder_of("llava", max_answer_tokens=7), [row])


def test_processors_that_cannot_do_it_are_refused() -> None:
    processor = processor_of("llava")
    with pytest.raises(ValueError, match=r"branches: expected some of chosen, rejected, visual"):
        AnswerEncoder(processor, branches=("chosen", "other"))
    with pytest.raises(ValueError, match="max_length: expected at least 1"):
        AnswerEncoder(processor, max_length=0)
    processor.chat_template = processor.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        AnswerEncoder(processor)


def test_a_processor_that_treats_several_images_otherwise_is_refused() -> None:
    """LLaVA-OneVision cuts tiles of a single image alone."""
    processor = processor_of("llava")
    own = type(processor).__call__

    class Other(type(processor)):  # type: ignore[misc]
        def __call__(self, *args: Any, **options: Any) -> Any:
            if len(options["images"][0]) > 1:
                options["text"] = [options["text"][0].replace("?", "!")]
            return own(self, *args, **options)

    processor.__class__ = Other
    encoder = AnswerEncoder(processor)
    assert isinstance(encoder.encode(pair(images=(RED,))), EncodedPair)
    with pytest.raises(ValueError, match="a row of 2 images"):
        encoder.encode(pair(images=(RED, BLUE)))


def test_the_identity_is_of_processor_template_and_options() -> None:
    base = encoder_of("llava").identity
    assert encoder_of("llava").identity == base
    assert encoder_of("llava", max_length=50, branches=("chosen",)).identity == base  # they leave rows and branches out
    assert encoder_of("llava", max_answer_tokens=50).identity != base
    assert encoder_of("qwen3").identity != base
    processor = processor_of("llava")
    processor.image_processor.size = {"shortest_edge": 30}
    assert AnswerEncoder(processor).identity != base
    other = processor_of("llava")
    other.chat_template = other.chat_template.replace("upper", "lower")
    assert AnswerEncoder(other).identity != base


def test_the_key_of_a_branch_is_of_its_tokens_and_images() -> None:
    encoder = encoder_of("llava", branches=("chosen", "rejected", "visual"))
    row = pair(images=(RED,), rejected_images=(BLUE,))
    keys = {name: branch.key for name, branch in encoded(encoder, [row])[0].branches.items()}
    assert len(set(keys.values())) == 3
    again = encoded(encoder, [pair(9, images=(RED,), rejected="Another")])[0]
    assert again.branches["chosen"].key == keys["chosen"]
    history = encoded(encoder_of("llava", history=True), [pair(images=(RED,), turns=TALK)])[0]
    assert (
        history.branches["chosen"].key != encoded(encoder, [pair(images=(RED,), turns=TALK)])[0].branches["chosen"].key
    )


def test_a_batch_needs_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        collate_answers([], 0)
