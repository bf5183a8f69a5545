"""Other people's columns as pairs: a table of formats, each a small pure function of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mmpo.data.format_columns import as_flags, as_override, listed, suggestion
from mmpo.data.format_values import caption, finite, finites, label, listed_captions, own_captions, scores_or_none
from mmpo.data.rows import group_from_row
from mmpo.data.source_rows import Row
from mmpo.records import Candidate, Group, Prompt, bytes_hash, content_id


@dataclass(frozen=True)
class Format:
    """One layout of columns.

    Args:
        name: as recipes name it.
        columns: needed for this format, "a|b" means either; the first match in the table wins.
        read: row -> a pair, or None for a tie. A ValueError names what is wrong with the row.
        read_list: row -> all candidates, best first, where the format has more than two.
        read_tied: as `read`, and a tie is a pair of equal rank, where the format tells ties.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[Row], Group | None]
    read_list: Callable[[Row], Group | None] | None = None
    read_tied: Callable[[Row], Group | None] | None = None

    def missing(self, columns: Sequence[str] | Mapping[str, Any]) -> list[str]:
        """What these columns lack for this format."""
        return [need.replace("|", " or ") for need in self.columns if not any(n in columns for n in need.split("|"))]

    @property
    def needs(self) -> str:
        """The columns, for a message."""
        return f"{self.name} needs {', '.join(need.replace('|', ' or ') for need in self.columns)}"


Captions = Sequence[str | None]
Scores = Mapping[str, Sequence[float | None]]
Listed = tuple[str, Sequence[bytes], Sequence[float], tuple[Any, ...], Scores, Captions]
"""Of a ranked row: prompt, images, order (lowest is best), what the id is made of, scores by reward, own captions."""


def _read_pairs(row: Row) -> Group:
    text = caption(row.values, "prompt")
    images = [row.image(column) for column in ("chosen", "rejected")]
    clean = {
        **row.values,
        "prompt": text,
        "key": label(row.values.get("key")),
        "split": label(row.values.get("split")),
    }
    captions = own_captions(row.values, ("caption_chosen", "caption_rejected"), text)
    group_id = content_id("pair", text, *map(bytes_hash, images), *_said(captions))
    return group_from_row(clean, _differ(images), source=row.place, group_id=group_id, captions=captions)


def _read_pick_a_pic(row: Row, *, ties: bool = False) -> Group | None:
    values = row.values
    first_is_best = finite(values.get("label_0"), "label_0")
    if first_is_best not in (0, 0.5, 1):
        raise ValueError(f"column 'label_0' is {values['label_0']!r}; expected 0, 0.5 or 1")
    if values.get("has_label") in (False, "False", "false"):
        raise ValueError("column 'has_label' is false: nobody compared these two images")
    other = values.get("label_1")
    if other is not None and finite(other, "label_1") != 1 - first_is_best:
        raise ValueError(
            f"columns 'label_0' and 'label_1' are {first_is_best!r} and {other!r}; they contradict each other"
        )
    tie = first_is_best == 0.5
    if tie and not ties:
        return None
    best = 1 if first_is_best == 0 else 0
    alone = values.get("caption") is None and f"caption_{best}" in values
    text = caption(values, f"caption_{best}" if alone else "caption")
    return _pair(
        row,
        text,
        [row.image("jpg_0"), row.image("jpg_1")],
        best=best,
        captions=own_captions(values, ("caption_0", "caption_1"), text),
        name=("pick_a_pic", values.get("ranking_id")),
        made=[{"model": values.get("model_0")}, {"model": values.get("model_1")}],
        tie=tie,
    )


def _read_ranked(row: Row) -> Group | None:
    """By `rank`, 1 is best; without that column by `scores` of one reward, the highest is best."""
    return _best_and_worst(row, *_ranked(row))


def _read_ranked_list(row: Row) -> Group | None:
    return _whole_list(row, *_ranked(row))


def _ranked(row: Row) -> Listed:
    text, images = caption(row.values, "prompt"), row.images("images")
    if len(images) < 2:
        raise ValueError(f"column 'images' holds {len(images)} images; a ranked list has at least 2")
    scores: dict[str, list[float | None]] = {}
    if "rank" in row.values:
        order = finites(row.values, "rank", len(images))
        given = row.values.get("scores")
        for name, values in given.items() if isinstance(given, Mapping) else ():
            if values is not None:
                scores[name] = scores_or_none({f"scores.{name}": values}, f"scores.{name}", len(images))
    else:
        name, given = _one_reward(row.values.get("scores"))
        numbers = finites({"scores": given}, "scores", len(images))
        scores[name], order = list(numbers), [-number for number in numbers]
    captions = listed_captions(row.values, len(images), text)
    return text, images, order, ("ranked", row.values.get("id")), scores, captions


def _one_reward(scores: Any) -> tuple[str, Any]:
    """(name, values) of the only reward in a `scores` column."""
    if not isinstance(scores, Mapping):
        return "scores", scores
    named = {name: values for name, values in scores.items() if values is not None}
    if len(named) != 1:
        one = {"scores": f"scores.{next(iter(named), 'NAME')}"}
        raise ValueError(
            f"column 'scores' holds {len(named)} rewards ({', '.join(named) or 'none'}) and there is no column 'rank'; "
            f"choose one with {as_override(one)} (mmpo data: {as_flags(one)})"
        )
    return next(iter(named.items()))


def _read_image_reward(row: Row) -> Group | None:
    """ImageRewardDB: 1 is best, ties allowed."""
    return _best_and_worst(row, *_image_reward(row))


def _read_image_reward_list(row: Row) -> Group | None:
    return _whole_list(row, *_image_reward(row))


def _image_reward(row: Row) -> Listed:
    text, images = caption(row.values, "prompt"), row.images("generations")
    if len(images) < 2:
        raise ValueError(f"column 'generations' holds {len(images)} images; a ranked list has at least 2")
    order = finites(row.values, "ranking", len(images))
    return text, images, order, ("image_reward", row.values.get("id")), {}, [None] * len(images)


def _read_hpdv2(row: Row, *, ties: bool = False) -> Group | None:
    """HPDv2: two files, and [1, 0] where the first was preferred."""
    text = caption(row.values, "prompt")
    preference = finites(row.values, "human_preference", 2)
    tie = preference[0] == preference[1]
    if tie and not ties:
        return None
    images = row.images("file_path")
    if len(images) != 2:
        raise ValueError(f"column 'file_path' holds {len(images)} images; expected 2")
    return _pair(row, text, images, best=preference.index(max(preference)), name=("hpdv2",), tie=tie)


def _read_hpdv3(row: Row) -> Group:
    """HPDv3: the first path is the preferred image in every row."""
    made = [{"model": row.values.get(name)} for name in ("model1", "model2")]
    images = [row.image("path1"), row.image("path2")]
    return _pair(row, caption(row.values, "prompt"), images, best=0, name=("hpdv3",), made=made)


def _read_votes(row: Row, *, ties: bool = False) -> Group | None:
    """Vote counts of two images; they stay with the pair as the scores "votes"."""
    votes = [finite(row.values.get(name), name) for name in ("votes_image1", "votes_image2")]
    if min(votes) < 0:
        raise ValueError(f"columns 'votes_image1' and 'votes_image2' are {votes}; expected counts")
    text = caption(row.values, "prompt")
    tie = votes[0] == votes[1]
    if tie and not (ties and votes[0]):
        return None
    images = [row.image("image1"), row.image("image2")]
    made = [{"model": row.values.get(f"model{k + 1}"), "votes": votes[k]} for k in range(2)]
    best = votes.index(max(votes))
    return _pair(row, text, images, best=best, name=("votes",), made=made, scores={"votes": votes}, tie=tie)


FORMATS = {
    fmt.name: fmt
    for fmt in (
        Format("pairs", ("prompt", "chosen", "rejected"), _read_pairs),
        Format(
            "pick_a_pic",
            ("caption|caption_0", "jpg_0", "jpg_1", "label_0"),
            _read_pick_a_pic,
            read_tied=partial(_read_pick_a_pic, ties=True),
        ),
        Format("ranked", ("prompt", "images", "rank|scores"), _read_ranked, _read_ranked_list),
        Format("hpdv3", ("prompt", "path1", "path2"), _read_hpdv3),
        Format(
            "hpdv2", ("prompt", "file_path", "human_preference"), _read_hpdv2, read_tied=partial(_read_hpdv2, ties=True)
        ),
        Format("image_reward", ("prompt", "generations", "ranking"), _read_image_reward, _read_image_reward_list),
        Format(
            "votes",
            ("prompt", "image1", "image2", "votes_image1", "votes_image2"),
            _read_votes,
            read_tied=partial(_read_votes, ties=True),
        ),
    )
}
KNOWN = tuple(dict.fromkeys(name for fmt in FORMATS.values() for need in fmt.columns for name in need.split("|")))


def detect(columns: Sequence[str], where: str, name: str = "auto") -> Format:
    """The format of these columns, or the named one if its columns are there.

    Raises:
        ValueError: lists the columns that were found, what each format needs, and the renaming that comes nearest.
    """
    candidates = [FORMATS[name]] if name != "auto" else list(FORMATS.values())
    for candidate in candidates:
        if not candidate.missing(columns):
            return candidate
    missing = f" missing: {', '.join(candidates[0].missing(columns))};" if len(candidates) == 1 else ""
    near = suggestion(columns, [[need.partition("|")[0] for need in c.columns] for c in candidates])
    hint = f" Perhaps '{as_override(near)}'? (mmpo data: {as_flags(near)})" if near else ""
    needs = "; ".join(candidate.needs for candidate in candidates)
    raise ValueError(f"{where}:{missing} found the columns {listed(columns) or 'none'}; {needs}.{hint}")


def _best_and_worst(
    row: Row,
    text: str,
    images: Sequence[bytes],
    order: Sequence[float],
    name: tuple[Any, ...],
    scores: Scores,
    captions: Captions,
) -> Group | None:
    """The first image of the lowest order and the first of the highest; None where all are equal."""
    ends = [order.index(min(order)), order.index(max(order))]
    if order[ends[0]] == order[ends[1]]:
        return None
    kept = {reward: [values[k] for k in ends] for reward, values in scores.items()}
    said = [captions[k] for k in ends]
    return _pair(row, text, [images[k] for k in ends], best=0, name=name, scores=kept, captions=said)


def _whole_list(
    row: Row,
    text: str,
    images: Sequence[bytes],
    order: Sequence[float],
    name: tuple[Any, ...],
    scores: Scores,
    captions: Captions,
) -> Group | None:
    """All images, the best first; ranks count from 1, equal numbers share one. None where all are equal."""
    if min(order) == max(order):
        return None
    places = sorted(range(len(images)), key=lambda k: order[k])
    ranks = [1 + sum(other < order[k] for other in order) for k in places]
    return Group(
        id=content_id(
            "list", *name, text, *(bytes_hash(images[k]) for k in places), *_said([captions[k] for k in places])
        ),
        prompt=Prompt(text, label(row.values.get("key")), label(row.values.get("split"))),
        candidates=[Candidate(images[k], caption=captions[k]) for k in places],
        scores={reward: [values[k] for k in places] for reward, values in scores.items()},
        rank=ranks,
        source=row.place,
    )


def _pair(
    row: Row,
    text: str,
    images: Sequence[bytes],
    *,
    best: int,
    name: tuple[Any, ...],
    made: Sequence[Mapping[str, Any]] = ({}, {}),
    scores: Scores | None = None,
    captions: Captions = (None, None),
    tie: bool = False,
) -> Group:
    """The group of two images, the chosen one first; its id is the hash of `name`, prompt, images and own captions."""
    sides = (best, 1 - best)
    pair = _differ([images[k] for k in sides])
    return Group(
        id=content_id(*name, text, *map(bytes_hash, pair), *_said([captions[k] for k in sides])),
        prompt=Prompt(text, label(row.values.get("key")), label(row.values.get("split"))),
        candidates=[Candidate(image, made[k], captions[k]) for image, k in zip(pair, sides, strict=True)],
        scores={reward: [values[k] for k in sides] for reward, values in (scores or {}).items()},
        rank=[1, 1] if tie else None,
        source=row.place,
    )


def _said(captions: Captions) -> list[Captions]:
    """What own captions add to a group's id: nothing where there are none."""
    return [list(captions)] if any(text is not None for text in captions) else []


def _differ(images: Sequence[bytes]) -> Sequence[bytes]:
    if images[0] == images[1]:
        raise ValueError("chosen and rejected are the same image, so the row prefers nothing; leave it out")
    return images
