"""Applications of text, handwriting and speech, one a module."""
