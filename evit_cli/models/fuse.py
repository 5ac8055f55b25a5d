"""Folds every BatchNorm into the convolution before it: the form that every runtime gets."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from evit_cli.models.layers import ConvNorm

M = TypeVar("M", bound=nn.Module)


def fuse(model: M) -> M:
    """A copy of `model` in eval mode without BatchNorm; outputs agree to 1e-5.

    The running statistics become part of the weights, so the result cannot be trained on.
    """
    fused = copy.deepcopy(model).eval()
    for module in fused.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
    return fused.requires_grad_(False)
