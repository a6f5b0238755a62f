"""Sequences out of sequences: what reads, or chooses, a whole sequence at a time."""
