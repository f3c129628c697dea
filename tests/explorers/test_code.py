"""The call behind a figure, which *Copy as code* gives, computes what the figure says."""

import ast

import pytest

from genopt_core import explorers

WITH_CODE = [name for name in explorers.names() if explorers.get(name).code]
SAID = {
    "subword-lattice": lambda path: "|".join(path.pieces),
    "cem-drift": lambda law: f"the law says {law[-1]:.3f}",
    "attn-bridge": lambda kept: "No block may go" if kept.all() else f"From {kept.sum()} block",
    "kv-staircase": lambda bits: f"the cache holds {bits:.2f} bits a number",
    "one-budget": lambda spent: f"falls from {spent.cache_bytes / 1e9:.3g} GB to",
    "kv-nested": lambda bound: f"(bound {float(bound):.3f})",
}


def computed(code: str, params: dict):
    """The value of the last expression, with the settings in their places."""
    for name, value in params.items():
        code = code.replace(f"{{{name}}}", repr(value))
    *before, last = ast.parse(code).body
    scope: dict = {}
    exec(compile(ast.Module(before, []), "copied", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "copied", "eval"), scope)


def test_these_figures_show_their_call():
    assert set(WITH_CODE) == set(SAID)


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_call_gives_what_the_figure_says(name):
    entry = explorers.get(name)
    defaults = entry.defaults
    settings = [{}, *(preset.params for preset in entry.presets)]
    compared = 0
    for params in settings:
        value = computed(entry.code, defaults | params)
        said = SAID[name](value)
        readout = explorers.draw(name, **params).readout
        if name == "cem-drift" and params.get("objective") == "slope":
            continue  # the law is for a flat objective
        if name == "kv-nested" and params.get("method") == "drop":
            continue  # the bound is for re-coding
        if name == "subword-lattice" and not value.feasible:
            said = "has no segmentation" if params["word"].isascii() else "<unk>"
        assert said in readout
        compared += 1
    assert compared >= 3
