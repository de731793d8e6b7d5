"""What tasks that say something of a picture share: words, scores of sentences, WordNet."""
