"""Log-likelihoods of answers by a vision-language model: all branches of a batch in one forward.

A step scores a batch with the frozen model, then with the policy:

    features = adapter.shared_features(policy, batch)
    with reference.active() as frozen, torch.no_grad():
        of_reference = adapter.logps(frozen, batch, features=features)
    of_policy = adapter.logps(policy, batch, features=features, reference=of_reference)
    loss = dpo(PairLogps(of_policy["chosen"].sums, of_policy["rejected"].sums), ...)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from mmpo.adapters.branch_attention import branch_mask
from mmpo.adapters.image_features import ImageFeatures, encode_images, image_inputs, without_pixels
from mmpo.adapters.response_head import Kept, Scoring, check_asked, scoring_head, sizes
from mmpo.adapters.token_layout import Layout, ScoredTokens, lay_out
from mmpo.adapters.vocabulary import CHUNK, Head
from mmpo.answer_batch import AnswerBatch, TokenLogps
from mmpo.models.vlm_parts import bare, trained_vision, vision_is_frozen

Asked = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Tricks:
    """What a forward leaves out, without changing a number. `mmpo.adapters.trick_check` says which ones a model takes.

    Args:
        share_images: encodes every distinct image once and not once a branch.
        vocabulary: of which positions there are logits: "chunks" of the scored ones at a time, "scored" ones at once,
            or "all".
        share_prompt: puts answers to one conversation under the same images behind it in one row.
    """

    share_images: bool = True
    vocabulary: Literal["chunks", "scored", "all"] = "chunks"
    share_prompt: bool = True


@dataclass(frozen=True)
class AnswerScores(Mapping[str, TokenLogps]):
    """Scores by branch; a mapping.

    Args:
        branches: by name.
        states: per branch the states behind them, where they were kept for divergences.
    """

    branches: Mapping[str, TokenLogps]
    states: Mapping[str, Kept] = field(default_factory=dict)

    def __getitem__(self, name: str) -> TokenLogps:
        return self.branches[name]

    def __iter__(self) -> Any:
        return iter(self.branches)

    def __len__(self) -> int:
        return len(self.branches)


@dataclass(frozen=True)
class Autoregressive:
    """log π(answer | images, conversation) = Σ_t log π(y_t | images, conversation, y_<t), token by token.

    Nothing is drawn: the score of a row depends on the row alone.

    Args:
        tricks: those that the model was found to take; `share_prompt` needs `branch_attention.install`.
        chunk: positions whose logits exist at once.
    """

    tricks: Tricks = Tricks()
    chunk: int = CHUNK

    def shared_features(self, model: Any, batch: AnswerBatch) -> ImageFeatures | None:
        """Every distinct image of the batch encoded once, for the policy and for its reference.

        Returns:
            None where there is nothing to share: no image, the trick is off, or tower or projector are trained. Then
            `logps` encodes by itself.
        """
        if not (self.tricks.share_images and batch.images) or not vision_is_frozen(model):
            return None
        with torch.no_grad():
            return encode_images(bare(model), batch.images)

    def logps(
        self,
        model: Any,
        batch: AnswerBatch,
        *,
        features: ImageFeatures | None = None,
        asked: Asked | None = None,
        reference: AnswerScores | None = None,
        keep_states: bool = False,
    ) -> AnswerScores:
        """Scores of every branch of the batch, from one forward.

        Args:
            model: of transformers, also under wrappers; what it is called through is what gradients go through.
            features: of `shared_features`.
            asked: per branch what else is wanted of its scored tokens: "kl", KL(reference ‖ policy) over the
                vocabulary; "reverse_kl", KL(policy ‖ reference); "top_non_label", the log-probability of the likeliest
                token that is not the answer's (the released rDPO's); "own:OTHER", the log-probability of the token
                that is likeliest in the branch OTHER of the same answer (POVID's, with OTHER under noised images);
                "activation", the mean of the state that predicts the token (SparsePO's MaPO).
            reference: the frozen model's scores with `keep_states`, for divergences.
            keep_states: whether to keep what divergences from this model need: one state a scored token.
        Returns:
            Per branch [N, T] over its scored tokens, float32 or better.
        Raises:
            ValueError: `asked` names what cannot be said.
        """
        asked = asked or {}
        check_asked(asked, batch.branches)
        inner = bare(model)
        layout = lay_out(batch, shared=self.tricks.share_prompt)
        if features is None and self.tricks.share_images and batch.images:
            features = encode_images(inner, batch.images)
        inputs = _inputs(inner, batch, layout, features)
        scoring = Scoring(layout, asked, reference.states if reference else {}, keep_states, self.chunk)
        if self.tricks.vocabulary == "chunks":
            with scoring_head(inner, scoring):
                flat = model(**inputs).logits
            scores = list(flat.split(sizes(layout, asked)))
        else:
            scores = self._from_logits(model, inputs, layout, scoring)
        if torch.is_grad_enabled():
            scores = _reaching(scores, trained_vision(inner))
        return AnswerScores(scoring.unpack(scores), scoring.kept)

    def _from_logits(self, model: Any, inputs: dict[str, Any], layout: Layout, scoring: Scoring) -> list[Tensor]:
        number = None
        if self.tricks.vocabulary == "scored":
            wanted = torch.zeros(layout.ids.shape, dtype=torch.bool)
            for scored in layout.scored.values():
                wanted[scored.row, scored.place] = True
            number = (wanted.flatten().cumsum(0) - 1).view(wanted.shape)
            inputs = {**inputs, "logits_to_keep": wanted.to(inputs["input_ids"].device)}
        logits = model(**inputs).logits

        def pick(scored: ScoredTokens) -> Head:
            at = (scored.row, scored.place) if number is None else (number[scored.row, scored.place],)
            rows = logits if number is None else logits.reshape(-1, logits.shape[-1])
            return Head(rows[tuple(x.to(logits.device) for x in at)])

        return scoring.scores(pick)


def _reaching(scores: list[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """The same scores, with a gradient of 0 to weights that the forward may not have used.

    Rows without images use no projector, LLaVA no last layer of its tower; but several processes add up the gradients
    of all trained weights, and where one has none they wait for it for ever or mix them up.
    """
    if not weights:
        return scores
    nothing = 0 * torch.stack([weight.sum() for weight in weights]).sum()
    return [score + nothing.to(score) for score in scores]


def _inputs(model: Any, batch: AnswerBatch, layout: Layout, features: ImageFeatures | None) -> dict[str, Any]:
    """Keyword arguments of one forward over the layout's rows."""
    device = model.device
    ids = layout.ids.to(device)
    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    shown = any(layout.images)
    sizes_alone = image_inputs(model, [without_pixels(image) for image in batch.images], layout.images)
    types = None if layout.types is None or not shown else layout.types.to(device)
    if features is not None and shown:
        inputs |= {**sizes_alone, "mm_encoder_outputs": features.of(layout.images)}
    else:
        inputs |= image_inputs(model, batch.images, layout.images)
    if types is not None:
        inputs[batch.types_name] = types
    if layout.shares:
        inputs["attention_mask"] = branch_mask(layout).to(device)
        inputs["position_ids"] = _positions(model, ids, types, sizes_alone) - layout.back.to(device)
    else:
        inputs["attention_mask"] = layout.real.long().to(device)
    return inputs


def _positions(model: Any, ids: Tensor, types: Tensor | None, sizes_alone: dict[str, Tensor]) -> Tensor:
    """[R, T], or [3, R, T] for models that place images in space, of the rows as they stand."""
    index = getattr(model.base_model, "get_rope_index", None)
    if index is not None and types is not None:
        return index(input_ids=ids, mm_token_type_ids=types, **sizes_alone)[0]
    return torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
