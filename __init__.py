"""EightBit: deep Q-learning from pixels on Atari, and one registry of backbones."""

__version__ = "0.1.0"
