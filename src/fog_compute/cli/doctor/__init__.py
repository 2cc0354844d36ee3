"""``fog doctor``: whether this machine can run a fog, what it lacks, and what mends that."""
