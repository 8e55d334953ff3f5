"""A chain of inverted residual blocks in stages, as MobileNetV2 (Sandler et al., CVPR 2018) is."""

from nasplatform.spaces.macro_chain.chains import Block, Chain, Chains, Stage
from nasplatform.spaces.macro_chain.skeleton import Skeleton
from nasplatform.spaces.macro_chain.space import MacroChain

__all__ = ["Block", "Chain", "Chains", "MacroChain", "Skeleton", "Stage"]
