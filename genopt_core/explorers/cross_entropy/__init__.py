"""Figures of chapter 2: the cross-entropy method."""
