"""A mixed, conditional space and its loss, shared by tests and their worker processes."""

import json
import math

from genopt_core.cross_entropy import Categorical, Float, Integer, SearchSpace, Trial, minimize

METHODS = ("plain", "plus", "posterior")
SPACE = SearchSpace(
    {
        "model": Categorical(["a", "b", "c"]),
        "window": Categorical([2, 3, 5, 8, 10], ordered=True),
        "units": Integer(4, 400, log=True),
        "rate": Float(1e-4, 1.0, log=True),
        "momentum": Float(0, 1, when={"model": ["a", "b"]}),
    }
)


def go_on(stored, total):
    """Every method's search from its stored trials to ``total`` of them, as text."""
    trials = {m: [Trial(**fields) for fields in json.loads(stored).get(m, [])] for m in METHODS}
    for method, known in trials.items():
        settings = {"method": method, "seed": 11, "batch_size": 3}
        trials[method] = minimize(loss, SPACE, total, trials=known, **settings).trials
    return json.dumps({method: [vars(t) for t in found] for method, found in trials.items()})


def loss(params):
    """Smooth, mixed and conditional; the minimum is 0 at b, 5, 40, 1e-2, momentum 0.7."""
    return (
        {"a": 0.4, "b": 0.0, "c": 0.6}[params["model"]]
        + abs(params["window"] - 5) / 5
        + (math.log10(params["units"]) - math.log10(40)) ** 2
        + (math.log10(params["rate"]) + 2) ** 2 / 2
        + (params.get("momentum", 0.0) - 0.7) ** 2
    )
