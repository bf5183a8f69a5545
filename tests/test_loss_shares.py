"""How often losses clamp or gate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_cases import pair

from mmpo.losses.loss_shares import SHARES

ZERO = pair([0.0, 0.0], [0.0, 0.0])
NUMBERS: dict[str, tuple[dict[str, Any], list[float], list[float], list[float]]] = {
    # options and tensors, δ_chosen, δ_rejected, what is expected
    "f_dpo": ({"divergence": "forward_kl", "alpha": 0.5, "beta": 0.1}, [-25.0, -15.0], [0.0, 0.0], [1.0, 0.0]),
    "chi_po": ({"beta": 1.0, "gamma": 1.0, "clip": 10.0}, [3.0, 0.5], [0.0, 0.0], [1.0, 0.0]),  # e³ − 1 + 3 = 22
    "clipped_dpo": ({"beta": 0.1, "clip": 0.1}, [0.2, 0.05], [0.0, 0.0], [1.0, 0.0]),
    "d3po": ({"beta": 0.1, "clip": 0.1}, [0.0, 0.05], [-0.2, 0.0], [1.0, 0.0]),
    "dpop": ({"beta": 0.1, "lam": 5.0}, [-0.1, 0.1], [-1.0, -1.0], [1.0, 0.0]),
    "minor_dpo": ({"beta": 0.1}, [0.0, 0.0], [0.1, 0.0], [1.0, 0.0]),
    "hpo": (
        {"lam": 5.0, "reward": torch.tensor([5.0, 1.0]), "value": torch.zeros(2), "beta": 0.1},
        [0.0, 0.0],
        [0.0, 0.0],
        [1.0, 0.0],  # 25 > 20
    ),
    "p3o": (
        {"clipping": "joint", "clip": 0.2, "chosen_behavior": torch.zeros(2), "rejected_behavior": torch.zeros(2)},
        [0.3, 0.1],
        [0.0, 0.0],
        [1.0, 0.0],  # e^0.3 = 1.35
    ),
}


def test_every_share_has_a_worked_number() -> None:
    assert NUMBERS.keys() == SHARES.keys()


@pytest.mark.parametrize("name", NUMBERS)
def test_values(name: str) -> None:
    given, chosen, rejected, expected = NUMBERS[name]
    (share,) = SHARES[name].values()
    assert share(pair(chosen, rejected), ZERO, **given).tolist() == expected


def test_ways_not_to_clip() -> None:
    """JS and reverse KL have no exponent; samples of the present policy need no weight; exponents of 20 are cut."""
    (f_dpo,), (p3o,) = SHARES["f_dpo"].values(), SHARES["p3o"].values()
    far = pair([-100.0, 100.0], [0.0, 0.0])
    for divergence in ("js", "reverse_kl"):
        assert f_dpo(far, ZERO, divergence=divergence, alpha=1.0).tolist() == [0.0, 0.0]
    assert p3o(far, ZERO, clipping="joint", clip=0.2).tolist() == [0.0, 0.0]
    own = {"chosen_behavior": torch.zeros(2), "rejected_behavior": torch.zeros(2), "clip": 0.2}
    assert p3o(far, ZERO, clipping="none", **own).tolist() == [0.0, 1.0]
    assert p3o(pair([0.3, -0.3], [-0.3, 0.0]), ZERO, clipping="separate", **own).tolist() == [1.0, 1.0]
