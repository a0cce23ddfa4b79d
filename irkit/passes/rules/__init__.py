"""Pattern collections of the canonicalize pass, by theme."""
