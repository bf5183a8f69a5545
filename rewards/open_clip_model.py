"""open_clip's own model and tokenizer, in the shape in which `ClipModel` takes them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn


class OpenClipTowers(nn.Module):
    """An open_clip model under the names of a transformers `CLIPModel`.

    Args:
        model: what `open_clip.create_model` gives.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.towers = model
        self.logit_scale = model.logit_scale
        self.config = SimpleNamespace(
            vision_config=SimpleNamespace(image_size=square(model.visual.image_size)),
            text_config=SimpleNamespace(max_position_embeddings=int(model.context_length)),
        )

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """[N, D] of [N, 3, H, W], not normalised."""
        return self.towers.encode_image(pixel_values)

    def get_text_features(self, input_ids: Tensor) -> Tensor:
        """[N, D] of [N, T] ids, not normalised; open_clip wants every text as long as its context."""
        length = self.config.text_config.max_position_embeddings
        return self.towers.encode_text(nn.functional.pad(input_ids, (0, length - input_ids.shape[1])))


@dataclass(frozen=True)
class SimpleIds:
    """open_clip's `SimpleTokenizer`, called like one of transformers: it unescapes HTML and mends broken Unicode.

    Args:
        tokenizer: the `SimpleTokenizer`.
    """

    tokenizer: Any
    pad_token_id: int = 0

    def __call__(self, text: str, **options: Any) -> Any:
        """`.input_ids` between the two marks, not cut."""
        ids = [self.tokenizer.sot_token_id, *self.tokenizer.encode(text), self.tokenizer.eot_token_id]
        return SimpleNamespace(input_ids=ids)


def simple_ids() -> SimpleIds:
    """The tokenizer of OpenAI's and LAION's CLIPs, whose vocabulary open_clip carries."""
    from open_clip import SimpleTokenizer

    return SimpleIds(SimpleTokenizer())


def create_open_clip(architecture: str, pretrained: str | None) -> tuple[OpenClipTowers, SimpleIds]:
    """open_clip's model with weights, and its tokenizer.

    Args:
        architecture: open_clip's name of it, or local-dir:FOLDER or hf-hub:OWNER/NAME, which bring their weights.
        pretrained: a tag that open_clip knows for this architecture, or a file; None with the two others.
    Raises:
        ValueError: it cannot be had, or its texts or images are not prepared as CLIP's are.
    """
    import open_clip

    brings = architecture.startswith(("local-dir:", "hf-hub:"))
    if not brings and architecture not in open_clip.list_models():  # an unknown name gets some tokenizer there
        from rewards.open_clip_weights import architecture_of

        architecture_of(architecture)
    if brings != (pretrained is None):
        raise ValueError(
            f"weights: architecture {architecture} brings its weights, so leave them out"
            if brings
            else f"weights: architecture {architecture} needs a file, or a tag of open_clip.list_pretrained()"
        )
    try:
        model = open_clip.create_model(architecture, pretrained=pretrained, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(architecture)
    except (RuntimeError, OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"weights {pretrained or architecture}: open_clip cannot load them ({why})") from None
    wanted = {"interpolation": "bicubic", "resize_mode": "shortest"}
    has = {key: model.visual.preprocess_cfg.get(key) for key in wanted}
    if not isinstance(tokenizer, open_clip.SimpleTokenizer) or has != wanted:
        raise ValueError(
            f"architecture {architecture}: its texts or images are not prepared as CLIP's are (tokenizer "
            f"{type(tokenizer).__name__}, {has}); only those that are can be used"
        )
    return OpenClipTowers(model), SimpleIds(tokenizer)


def square(size: int | tuple[int, int]) -> int:
    """The side of a model's square images.

    Raises:
        ValueError: they are not square.
    """
    if isinstance(size, int):
        return size
    if size[0] != size[1]:
        raise ValueError(f"architecture: images of {size[0]} x {size[1]}; only square ones can be used")
    return size[0]


def statistics_of(towers: OpenClipTowers) -> dict[str, tuple[float, ...]]:
    """Mean and deviation of the pixels, as `ClipModel` takes them."""
    said = towers.towers.visual.preprocess_cfg
    return {key: tuple(map(float, said[key])) for key in ("mean", "std")}
