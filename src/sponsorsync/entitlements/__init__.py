"""People who are entitled: by what, until when, and how that is learnt and corrected."""
