"""Figures of chapter 5: the staircase cache."""
