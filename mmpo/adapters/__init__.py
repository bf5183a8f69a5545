"""How a model says log-likelihood, and the reference it is compared with."""

from mmpo.adapters.denoising import Denoising
from mmpo.adapters.flow import Flow
from mmpo.adapters.reference import AdaptersOff, FrozenAdapter, FrozenCopy
from mmpo.adapters.transition import Transitions

__all__ = ["AdaptersOff", "Denoising", "Flow", "FrozenAdapter", "FrozenCopy", "Transitions"]
