"""Figures of chapter 6: the factorial, the model at work, and budgets on paper."""
