"""Figures of chapter 1: sub-word segmentation and vocabularies."""
