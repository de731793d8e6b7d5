"""EightBit: deep Q-learning from pixels on Atari, and one registry of backbones."""

from .envs.registration import register_games

__version__ = "0.1.0"

# By names only: neither torch nor ALE is loaded before an environment or agent is made.
register_games()
