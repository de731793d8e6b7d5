"""Applications that see: each module or folder here is a task called like it."""

from ..tasks import register_tasks

register_tasks(__name__, __path__)
