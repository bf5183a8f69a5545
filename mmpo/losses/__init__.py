"""Preference losses as pure functions on log-likelihoods. Loads torch and itself only."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mmpo.losses.anchored import apo_down, apo_zero, clipped_dpo, dpop, flex_dpo
from mmpo.losses.diffusion_only import diffusion_kto, dspo, mapo, seppo, sm_po, subject_rpo
from mmpo.losses.divergences import chi_po, f_dpo
from mmpo.losses.exploration import hpo, hypo, xpo
from mmpo.losses.listwise import d3po, exo_list, lipo_lambda, pairwise_logistic, plackett_luce, pro, rank_dpo, tree_po
from mmpo.losses.margins import modpo
from mmpo.losses.odds import asft, orpo
from mmpo.losses.outcome import oreo, oreo_value
from mmpo.losses.pairwise import dpo, hinge, ipo, minor_dpo, sft
from mmpo.losses.pointwise import kto, poft
from mmpo.losses.policy_gradient import p3o
from mmpo.losses.reference_free import cpo, length_normalized_dpo, maximum_preference, rso_hinge, simpo, slic, triple_po
from mmpo.losses.references import apo_momentum, mrpo
from mmpo.losses.regularizers import rationale_dpo, rpo, sft_dpo
from mmpo.losses.self_play import gpo, sppo, srpo
from mmpo.losses.smoothing import conservative_dpo, exo, robust_dpo
from mmpo.losses.tokenwise import sparse_po, step_dpo, tdpo1, tdpo2
from mmpo.losses.types import PairLogps

LOSSES: dict[str, Callable[..., Tensor]] = {
    "dpo": dpo,
    "hinge": hinge,
    "ipo": ipo,
    "minor_dpo": minor_dpo,
    "sft": sft,
    "conservative_dpo": conservative_dpo,
    "robust_dpo": robust_dpo,
    "exo": exo,
    "chi_po": chi_po,
    "f_dpo": f_dpo,
    "dpop": dpop,
    "flex_dpo": flex_dpo,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "clipped_dpo": clipped_dpo,
    "sft_dpo": sft_dpo,
    "rpo": rpo,
    "rationale_dpo": rationale_dpo,
    "modpo": modpo,
    "mrpo": mrpo,
    "apo_momentum": apo_momentum,
    "sppo": sppo,
    "gpo": gpo,
    "srpo": srpo,
    "xpo": xpo,
    "hypo": hypo,
    "hpo": hpo,
    "tdpo1": tdpo1,
    "tdpo2": tdpo2,
    "sparse_po": sparse_po,
    "step_dpo": step_dpo,
    "oreo": oreo,
    "oreo_value": oreo_value,
    "slic": slic,
    "rso_hinge": rso_hinge,
    "maximum_preference": maximum_preference,
    "simpo": simpo,
    "length_normalized_dpo": length_normalized_dpo,
    "cpo": cpo,
    "triple_po": triple_po,
    "orpo": orpo,
    "asft": asft,
    "rank_dpo": rank_dpo,
    "lipo_lambda": lipo_lambda,
    "plackett_luce": plackett_luce,
    "pro": pro,
    "exo_list": exo_list,
    "tree_po": tree_po,
    "pairwise_logistic": pairwise_logistic,
    "d3po": d3po,
    "mapo": mapo,
    "diffusion_kto": diffusion_kto,
    "dspo": dspo,
    "sm_po": sm_po,
    "seppo": seppo,
    "subject_rpo": subject_rpo,
    "p3o": p3o,
    "kto": kto,
    "poft": poft,
}

__all__ = ["LOSSES", "PairLogps", *LOSSES]
