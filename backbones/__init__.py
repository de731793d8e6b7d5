"""Trunks of networks behind one registry: CNNs, an MLP and recurrent networks.

>>> from eightbit.backbones import create_backbone
>>> trunk = create_backbone("nature", (4, 84, 84))
>>> trunk.out_features
512
"""

from . import dqn_cnn, impala, mlp, resnet  # noqa: F401  # each registers its backbones
from .base import (
    BACKBONES,
    BackboneConfig,
    BackboneSpec,
    Stage,
    create_backbone,
    list_backbones,
    register_backbone,
)

__all__ = [
    "BACKBONES",
    "BackboneConfig",
    "BackboneSpec",
    "Stage",
    "create_backbone",
    "list_backbones",
    "register_backbone",
]
