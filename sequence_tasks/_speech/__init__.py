"""What the tasks of speech share: features, segments, transcripts."""
