"""``fog top``: a fog as it is, again and again."""
