"""A CLIP whose image tower is told the timestep; it starts equal to its CLIP."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.nn.utils import skip_init
from torch.utils.checkpoint import checkpoint

FREQUENCIES = 256  # width of the timestep's sines and cosines


class StepAwareClip(nn.Module):
    """A transformers `CLIPModel` around whose image layers a timestep sets shift, scale and gate.

    With D the tower's width, c = silu(W₂·silu(W₁·[cos(t·f) | sin(t·f)])), f_i = 10000^(−i/128), each layer is

        s₁, b₁, g₁, s₂, b₂, g₂ = A·c + a, in six parts of D
        x ← x + g₁·attention(norm₁(x)·(1+b₁) + s₁),   x ← x + g₂·mlp(norm₂(x)·(1+b₂) + s₂)

    and the class token leaves as norm(x)·(1+b) + s with s, b = A'·c + a'. The text tower does not know t. At the
    start A, A', a, a' are 0 and the gates' part of a is 1, so that every product is exactly the CLIP's own.

    Args:
        clip: whose own layers are run; it becomes part of this module and is trained with it.
        seed: of the timestep's own weights, normal with deviation .02; it does not touch the global generator.
    References:
        Liang et al., Aesthetic Post-Training Diffusion Models from Generic Preferences with Step-by-step Preference
        Optimization, arXiv 2406.04314, and its code. There the timestep is rounded to the weights' precision before
        its sines are taken (951 to 952 in bfloat16); here it never is.
    """

    def __init__(self, clip: Any, seed: int = 0) -> None:
        super().__init__()
        self.clip = clip
        self.gradient_checkpointing = False
        width, dtype = clip.config.vision_config.hidden_size, clip.visual_projection.weight.dtype
        device = clip.visual_projection.weight.device

        def linear(inputs: int, outputs: int) -> nn.Linear:
            return skip_init(nn.Linear, inputs, outputs, dtype=dtype, device=device)

        self.time: Any = nn.ModuleList([linear(FREQUENCIES, width), linear(width, width)])
        self.layers: Any = nn.ModuleList([linear(width, 6 * width) for _ in clip.vision_model.encoder.layers])
        self.last: Any = linear(width, 2 * width)
        self._start(seed)

    @torch.no_grad()
    def _start(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for part in self.time:
            part.weight.copy_(0.02 * torch.randn(part.weight.shape, generator=generator))
            part.bias.zero_()
        for part in [*self.layers, self.last]:
            part.weight.zero_()
            part.bias.zero_()
        for part in self.layers:
            for gate in (2, 5):
                part.bias.view(6, -1)[gate] = 1

    @property
    def config(self) -> Any:
        """The CLIP's."""
        return self.clip.config

    @property
    def logit_scale(self) -> Tensor:
        """The CLIP's: logarithm of what cosines are multiplied with."""
        return self.clip.logit_scale

    def gradient_checkpointing_enable(self) -> None:
        """Keeps no layer's activations while training; they are computed again for the gradient."""
        self.gradient_checkpointing = True
        getattr(self.clip, "activation_checkpointing_enable", self.clip.gradient_checkpointing_enable)()

    def get_text_features(self, **inputs: Any) -> Any:
        """The CLIP's."""
        return self.clip.get_text_features(**inputs)

    def get_image_features(self, pixel_values: Tensor, timesteps: Tensor) -> Tensor:
        """[N, P] embeddings, not normalised.

        Args:
            pixel_values: [N, 3, size, size], normalised as CLIP's.
            timesteps: [N] in 0 .. T−1, whole or not.
        """
        tower = self.clip.vision_model
        said = self._conditions(timesteps)
        hidden = tower.pre_layrnorm(tower.embeddings(pixel_values))
        run: Callable[..., Tensor] = _layer
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            run = _recomputed
        for layer, condition in zip(tower.encoder.layers, self.layers, strict=True):
            hidden = run(layer, hidden, condition(said))
        shift, scale = self.last(said).chunk(2, dim=1)
        return self.clip.visual_projection(tower.post_layernorm(hidden[:, 0]) * (1 + scale) + shift)

    def forward(self, pixel_values: Tensor, timesteps: Tensor) -> Tensor:
        """`get_image_features`."""
        return self.get_image_features(pixel_values, timesteps)

    def _conditions(self, timesteps: Tensor) -> Tensor:
        first, second = self.time
        waves = timestep_waves(timesteps.to(first.weight.device)).to(first.weight.dtype)
        return silu(second(silu(first(waves))))


def timestep_waves(timesteps: Tensor) -> Tensor:
    """[N, 256] float32: cosines, then sines, of t at frequencies from 1 down to nearly 1/10000.

    Args:
        timesteps: [N].
    """
    half = FREQUENCIES // 2
    steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps.float()[:, None] * torch.exp(-math.log(10000) * steps / half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _layer(layer: Any, hidden: Tensor, condition: Tensor) -> Tensor:
    """One layer of the CLIP's image tower under its six conditions [N, 6 D]."""
    shift, scale, gate, late_shift, late_scale, late_gate = condition[:, None].chunk(6, dim=2)
    inner = layer.layer_norm1(hidden) * (1 + scale) + shift
    hidden = hidden + gate * layer.self_attn(hidden_states=inner, attention_mask=None)[0]
    inner = layer.layer_norm2(hidden) * (1 + late_scale) + late_shift
    return hidden + late_gate * layer.mlp(inner)


def _recomputed(layer: Any, hidden: Tensor, condition: Tensor) -> Tensor:
    return checkpoint(_layer, layer, hidden, condition, use_reentrant=False)
