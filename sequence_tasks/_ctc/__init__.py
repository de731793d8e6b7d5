"""CTC decoding, models of language and scores that several tasks share."""
