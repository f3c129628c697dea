"""The machinery of figures: schema, controls, registry, frames, style and front end.

No mathematics is here.  An explorer is a function that returns a `schema.Figure`, with controls and
presets, see `registry.explorer`; `frames` computes it over the grid of its controls, `widget` shows
it in a notebook, and ``web`` draws it there, on the page and in print.
"""
