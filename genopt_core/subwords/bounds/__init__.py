"""What is proved about the best vocabulary of a size.

- ``certificate`` — a lower bound on its token count, for corpora of any size
- ``exact`` — the best vocabulary itself, for small ones
"""
