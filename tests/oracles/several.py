"""Test problems with several objectives or constraints, for Optuna's trials."""

import math


def zdt1(trial, dimensions=8):
    """Two losses; the front is 1 - sqrt(x) for x in [0, 1] (Zitzler, Deb, Thiele 2000)."""
    x = [trial.suggest_float(f"x{i}", 0, 1) for i in range(dimensions)]
    g = 1 + 9 * sum(x[1:]) / (dimensions - 1)
    return x[0], g * (1 - math.sqrt(x[0] / g))


def dtlz2(trial, dimensions=7):
    """Three losses; the front is an eighth of the unit sphere (Deb et al. 2002)."""
    x = [trial.suggest_float(f"x{i}", 0, 1) for i in range(dimensions)]
    g = 1 + sum((v - 0.5) ** 2 for v in x[2:])
    a, b = x[0] * math.pi / 2, x[1] * math.pi / 2
    return g * math.cos(a) * math.cos(b), g * math.cos(a) * math.sin(b), g * math.sin(a)


def constrained(trial):
    """Feasible on a ring around 0, and category a only where z is large."""
    x, y, z = (trial.suggest_float(name, 0, 1) for name in "xyz")
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    trial.set_constraint("ring", abs(x * x + y * y - 0.5) - 0.05)
    trial.set_constraint("kind", {"a": 0.3, "b": -1.0, "c": -0.1}[kind] - 0.4 * z)
    return -x + z / 2 + {"a": -0.5, "b": 0.2, "c": 0.0}[kind]
