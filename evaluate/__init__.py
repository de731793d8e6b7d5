"""Scores under the protocols of the literature, controls, videos, saliency and curves.

Submodules are imported by name (`from eightbit.evaluate.scores import Score`), so that a score
can be read without loading the video encoder or the plotting library.
"""
