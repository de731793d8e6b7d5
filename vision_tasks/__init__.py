"""Applications that see, one a module."""
