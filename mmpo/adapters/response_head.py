"""The output head for the length of a forward: scores of asked tokens in place of logits of all positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmpo.adapters.token_layout import Layout, ScoredTokens
from mmpo.adapters.vocabulary import CHUNK, Head, likeliest, score_tokens
from mmpo.answer_batch import TokenLogps

PLAIN = ("kl", "reverse_kl", "top_non_label", "activation")
CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
"""What configurations call something that is done to logits: Gemma's cap is too weak to be seen in bfloat16."""


@dataclass(frozen=True)
class Kept:
    """What divergences from a model need of it: [M, H] states, and the layer that makes logits of them.

    The layer and not its weight: where the weight is spread over processes (FSDP), it is whole only while the layer
    runs, and under adapters that are switched off it is the policy's own. None: the states are logits.
    """

    states: Tensor
    layer: Any = None

    @property
    def head(self) -> Head:
        """With the layer's weight as it is now."""
        return Head(self.states) if self.layer is None else Head(self.states, self.layer.weight, self.layer.bias)


def check_asked(asked: Mapping[str, Sequence[str]], branches: Mapping[str, Any]) -> None:
    """Refuses what cannot be said, and what another branch must say that is not there for the same rows.

    Args:
        asked: per branch: "kl", "reverse_kl", "top_non_label", "activation", or "own:OTHER".
        branches: of the batch, by name, each with `rows`.
    Raises:
        ValueError: names it.
    """
    for name, wanted in asked.items():
        if name not in branches:
            raise ValueError(f"asked: the batch has no branch {name}, it has {', '.join(branches)}")
        for what in wanted:
            if what in PLAIN:
                continue
            other = what.removeprefix("own:")
            if not what.startswith("own:"):
                raise ValueError(f"asked: expected {', '.join(PLAIN)} or own:BRANCH, got {what!r}")
            if other not in branches or branches[other].rows.tolist() != branches[name].rows.tolist():
                raise ValueError(f"asked: {what} of {name} needs the branch {other} for the same rows")
            if branches[other].scored.sum(-1).tolist() != branches[name].scored.sum(-1).tolist():
                raise ValueError(f"asked: {what} of {name}, but {other} is another answer; take one of the same answer")


@dataclass(frozen=True)
class Scoring:
    """What to make of the states of a forward.

    Args:
        layout: of its rows.
        asked: per branch what else is wanted.
        reference: per branch the frozen model's states, for divergences.
        keep: whether to keep these states, for divergences from this model.
        chunk: positions at once.
    """

    layout: Layout
    asked: Mapping[str, Sequence[str]]
    reference: Mapping[str, Kept]
    keep: bool = False
    chunk: int = CHUNK
    kept: dict[str, Kept] = field(default_factory=dict)

    def scores(self, pick: Callable[[ScoredTokens], Head], layer: Any = None) -> list[Tensor]:
        """One [M] per branch and quantity, in the order of `unpack`.

        Args:
            pick: the states that predict a branch's scored tokens.
            layer: that makes logits of them; None where they are logits.
        """
        heads = {name: pick(scored) for name, scored in self.layout.scored.items()}
        found = []
        for name, scored in self.layout.scored.items():
            wanted = self.asked.get(name, ())
            head, token = heads[name], scored.token.to(heads[name].states.device)
            columns = [token]
            for what in wanted:
                if what == "top_non_label":
                    columns.append(likeliest(head, token, chunk=self.chunk))
                elif what.startswith("own:"):
                    columns.append(likeliest(heads[what[4:]], chunk=self.chunk))
            diverges = "kl" in wanted or "reverse_kl" in wanted
            if diverges and name not in self.reference:
                raise ValueError(f"asked: {', '.join(wanted)} of {name} needs the reference's scores, kept")
            reference = self.reference[name].head if diverges else None
            out = score_tokens(head, torch.stack(columns, 1), reference, chunk=self.chunk)
            column = iter(out.logps.unbind(1))
            found.append(next(column))
            told = {"kl": out.kl, "reverse_kl": out.reverse_kl}
            if "activation" in wanted:
                told["activation"] = _activation(head)
            found += [told[what] if what in told else next(column) for what in wanted]
            if self.keep:
                self.kept[name] = Kept(head.states.detach(), layer)
        return found

    def unpack(self, scores: Sequence[Tensor]) -> dict[str, TokenLogps]:
        """The scores of a forward as [N, T] per branch."""
        left = iter(scores)
        found = {}
        for name, scored in self.layout.scored.items():
            logps = _spread(next(left), scored)
            extra = {what: _spread(next(left), scored) for what in self.asked.get(name, ())}
            device = logps.device
            found[name] = TokenLogps(
                logps, scored.mask.to(device), scored.weights.to(device), scored.rows.to(device), extra
            )
        return found


def _activation(head: Head) -> Tensor:
    """[M] mean over the width of the states, without gradient."""
    if head.weight is None:
        raise ValueError(
            "asked: activation is of the states before the head, and of this model the logits alone are seen; set "
            "method.token_weights to segments"
        )
    states = head.states.detach()
    return states.to(torch.promote_types(states.dtype, torch.float32)).mean(-1)


@contextmanager
def scoring_head(model: Any, scoring: Scoring) -> Iterator[None]:
    """A context in which the model's head gives the scores of `scoring`, one after the other, [sum of all M].

    The head's own forward is replaced and not its result, so that what hooks onto it (FSDP gathers its weight, DDP
    counts its gradient) still works; the model's other steps see one flat tensor where logits would be.

    Args:
        model: the bare transformers model.
    Raises:
        ValueError: the head is no plain linear layer, or the model changes its logits.
    """
    head: Any = model.get_output_embeddings()
    plain = isinstance(head, nn.Linear) and type(head).forward is nn.Linear.forward  # FSDP's is, a quantised one is not
    if not plain or "forward" in vars(head):
        raise ValueError(f"its head is a {type(head).__name__} and no plain linear layer")
    text = model.config.get_text_config()
    changed = next((name for name in CHANGES if getattr(text, name, None) not in (None, 1, 1.0)), None)
    if changed is not None:
        raise ValueError(f"it changes logits behind its head ({changed}), which log-probabilities are not")

    def scores(states: Tensor) -> Tensor:
        def pick(scored: ScoredTokens) -> Head:
            return Head(states[scored.row.to(states.device), scored.place.to(states.device)], head.weight, head.bias)

        return torch.cat(scoring.scores(pick, head))

    head.forward = scores
    try:
        yield
    finally:
        del head.forward


def sizes(layout: Layout, asked: Mapping[str, Sequence[str]]) -> list[int]:
    """Lengths of what a scoring head's result holds, one after the other."""
    return [len(scored.token) for name, scored in layout.scored.items() for _ in (name, *asked.get(name, ()))]


def _spread(values: Tensor, scored: ScoredTokens) -> Tensor:
    out = values.new_zeros(scored.mask.shape)
    return out.index_put((scored.at_row.to(values.device), scored.at_column.to(values.device)), values)
