"""Figures of chapter 3: rotation, distance biases, and what they allow."""
