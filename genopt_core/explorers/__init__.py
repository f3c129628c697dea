"""The explorers of the book, one module a chapter; :mod:`genopt_core.explorer` loads them."""
