"""Figures of chapter 4: tiles, blocks drawn by distance, rounds, and what a draw can promise."""
