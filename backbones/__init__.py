"""Trunks of networks behind one registry: CNNs, an MLP and recurrent networks.

>>> from eightbit.backbones import create_backbone
>>> trunk = create_backbone("nature", (4, 84, 84))
>>> trunk.out_features
512
"""

from . import (  # noqa: F401  # each registers its backbones
    alexnet,
    darknet,
    dqn_cnn,
    impala,
    mlp,
    multiplicative,
    recurrent,
    resnet,
    speedy,
    stacked,
    strided,
    vgg,
)
from .base import (
    BACKBONES,
    BackboneConfig,
    BackboneSpec,
    Stage,
    config_of,
    create_backbone,
    list_backbones,
    register_backbone,
)
from .layers import ConvTrunk, PixelConv2d, channels_last
from .table import BackboneRow, backbone_table
from .weights import LoadReport, export_trunk, load_weights, packaged_weights, save_weights

__all__ = [
    "BACKBONES",
    "BackboneConfig",
    "BackboneRow",
    "BackboneSpec",
    "ConvTrunk",
    "LoadReport",
    "PixelConv2d",
    "Stage",
    "backbone_table",
    "channels_last",
    "config_of",
    "create_backbone",
    "export_trunk",
    "list_backbones",
    "load_weights",
    "packaged_weights",
    "register_backbone",
    "save_weights",
]
