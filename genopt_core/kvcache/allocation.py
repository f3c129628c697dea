r"""How many bits each age deserves, by measured attention mass, and how many each layer."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from genopt_core.checks import real, whole
from genopt_core.kvcache.ladder import FULL, stairs_by_age


def squared_mass_by_age(
    weights: npt.ArrayLike, positions: npt.ArrayLike, chunk: int, ages: int, *, sink: int = 0
) -> np.ndarray:
    r"""Squared attention weight that falls on each age, (ages,) (book, eq. kv-mass).

    .. math:: \omega_a = \frac1{|Q|} \sum_{t \in Q}\ \sum_{j:\ \lfloor (t - j)/S \rfloor = a}
              p_{tj}^2

    If errors of values are independent, that of an attention output is
    :math:`\sum_j p_{tj}^2 \lVert \hat v_j - v_j \rVert^2`: squared weight is what counts.

    Parameters
    ----------
    weights : (queries, tokens) array
        Rows of attention weights; each sums to 1.
    positions : (queries,) int array
        Token index of each query.
    chunk, ages : int
        Tokens of one age, and how many ages to return.
    sink : int
        First tokens to leave out.

    Examples
    --------
    >>> squared_mass_by_age([[0.5, 0.5]], [1], chunk=1, ages=2).tolist()
    [0.25, 0.25]
    """
    p = np.asarray(weights, dtype=float)
    at = np.asarray(positions)
    if p.ndim != 2 or at.shape != p.shape[:1]:
        raise ValueError(
            f"weights must be (queries, tokens) with one of positions a row, got {p.shape} "
            f"and {at.shape}"
        )
    if not np.isfinite(p).all():
        raise ValueError("weights must be finite, they hold NaN or infinity")
    if at.dtype.kind not in "iu":
        raise TypeError(f"positions must be whole numbers, got {at.dtype}")
    chunk, ages, sink = whole(chunk, "chunk"), whole(ages, "ages"), whole(sink, "sink", least=0)
    age = (at[:, None] - np.arange(p.shape[1])[None]) // chunk
    squared = p**2
    squared[:, :sink] = 0
    return np.array([(squared * (age == a)).sum(axis=1).mean() for a in range(ages)])


def predicted_terms(
    errors: Mapping[int, npt.ArrayLike],
    edges: Sequence[int],
    ladder: Sequence[int],
    chunk: int,
    *,
    sink: int = 0,
) -> list[float]:
    r"""Squared output error expected from each bin of tokens on a ladder (book, eq. kv-mass).

    If errors are independent, bins add up: each has the error of the width that the ladder gives
    its tokens, and none in full precision.

    ``errors`` has for each width :math:`\overline{p_{tj}^2 \lVert \hat v_j - v_j \rVert^2}` summed
    over the tokens of each bin, or the like for keys; ``edges`` are the tokens at which bins begin,
    and the length, and no bin crosses a stair.  The rest is as in :func:`~.stairs_by_age`.

    >>> predicted_terms({8: [0, 1, 1], 2: [0, 60, 50]}, [0, 1, 5, 9], (16, 8, 2), 4, sink=1)
    [0.0, 60.0, 1.0]
    """
    stairs = stairs_by_age(edges[-1], ladder, chunk, sink=sink)
    terms = []
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        held = [stair.bits for stair in stairs if stair.first <= first and last <= stair.last]
        if not held:
            raise ValueError(f"edges must not cross a stair, got {first} to {last} of {stairs}")
        terms.append(0.0 if held[0] == FULL else float(np.asarray(errors[held[0]])[number]))
    return terms


def monotone_mass(mass: npt.ArrayLike, tokens: npt.ArrayLike | None = None) -> np.ndarray:
    """Nearest non-increasing sequence to ``mass`` in least squares (pool adjacent violators).

    Bits cannot come back, so a ladder may not rise with age; pooled ages share their mean mass,
    weighted by ``tokens`` where given.

    >>> monotone_mass([5.0, 1.0, 3.0, 1.0]).tolist()
    [5.0, 2.0, 2.0, 1.0]
    """
    omega = np.asarray(mass, dtype=float)
    if omega.ndim != 1 or not omega.size or not (omega >= 0).all():
        raise ValueError(f"mass must be a filled row of numbers from 0 up, got {mass!r}")
    count = np.ones(len(omega)) if tokens is None else np.asarray(tokens, dtype=float)
    if count.shape != omega.shape or not (count > 0).all():
        raise ValueError(f"tokens must be one positive number an age, got {tokens!r}")
    blocks: list[tuple[float, float, int]] = []  # mean mass, tokens, ages
    for value, weight in zip(omega, count, strict=True):
        blocks.append((float(value), float(weight), 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (m1, t1, n1), (m2, t2, n2) = blocks[-2:]
            blocks[-2:] = [((m1 * t1 + m2 * t2) / (t1 + t2), t1 + t2, n1 + n2)]
    return np.concatenate([np.full(ages, mean) for mean, _, ages in blocks])


def ideal_bits(mass: npt.ArrayLike, mean_bits: float) -> np.ndarray:
    r"""Real-valued bits by age with the least error at a mean (book, eq. kv-allocation).

    .. math:: b_a = \bar b + \tfrac12 \log_2 \omega_a
              - \tfrac12\, \overline{\log_2 \omega}

    solves :math:`\min \sum_a \omega_a 4^{-b_a}` under :math:`\sum_a b_a = A\bar b`, where
    :math:`\omega_a 4^{-b_a}` is the same for all ages.  Bits fall with the *logarithm* of squared
    mass: linearly in age if attention decays exponentially, by a constant per doubling of age if
    it follows a power law.

    >>> ideal_bits([16.0, 4.0, 1.0], mean_bits=4).tolist()
    [5.0, 4.0, 3.0]
    """
    omega = np.asarray(mass, dtype=float)
    if omega.ndim != 1 or not omega.size or not (omega > 0).all():
        raise ValueError(f"mass must be a filled row of positive numbers, got {mass!r}")
    bits = 0.5 * np.log2(omega)
    return bits - bits.mean() + real(mean_bits, "mean_bits")


def allocate_widths(
    mass: npt.ArrayLike,
    budget: float,
    widths: Sequence[int] = (2, 3, 4, 8, 16),
    *,
    distortion: Sequence[float] | None = None,
    tokens: npt.ArrayLike | None = None,
) -> list[int]:
    r"""Widths by age, from a menu, with the least error in a budget (book, eq. kv-allocation).

    .. math:: b_a(\lambda) = \arg\min_{b \in \text{menu}} \tilde\omega_a D(b) + \lambda b

    with :math:`\tilde\omega` the mass per token made non-increasing (:func:`monotone_mass`), so
    that widths never rise with age, and the smallest :math:`\lambda` that fits the budget.

    Cost O(ages × menu log(ages × menu)).  Upgrades are taken in order of error saved per bit along
    the convex hull of the menu: optimal at every budget that the first upgrades meet exactly;
    between two of those the rest is filled greedily (H. Everett 1963).

    Parameters
    ----------
    mass : (ages,) array
        Squared attention mass per token, newest age first.
    budget : float
        Mean bits per token allowed.
    widths : sequence of int
        The menu.
    distortion : sequence of float, optional
        Error :math:`D(b)` of each width; by default :math:`4^{-b}`.
    tokens : (ages,) array, optional
        Tokens of each age, by default equal.

    Examples
    --------
    >>> allocate_widths([64.0, 1.0, 1.0, 0.25], budget=3.0, widths=(1, 2, 4, 8))
    [4, 4, 2, 2]
    """
    menu = sorted(whole(width, "widths") for width in widths)
    if not menu or len(set(menu)) != len(menu):
        raise ValueError(f"widths must be different positive numbers, got {widths!r}")
    errors = [4.0**-w for w in widths] if distortion is None else distortion
    if len(errors) != len(menu) or not np.isfinite(errors).all():
        raise ValueError(f"distortion must be one finite number a width, got {distortion!r}")
    error = {int(w): float(d) for w, d in zip(widths, errors, strict=True)}
    omega = monotone_mass(mass, tokens)
    count = np.ones(len(omega)) if tokens is None else np.asarray(tokens, dtype=float)
    if not _number(budget) >= menu[0]:
        raise ValueError(f"budget must be at least the narrowest width, {menu[0]}, got {budget}")

    hull = _convex_hull(menu, error)
    upgrades = []
    for k, (low, high) in enumerate(itertools.pairwise(hull)):
        gain = (error[low] - error[high]) / (high - low)
        upgrades += [(-w * gain, k, a) for a, w in enumerate(omega)]
    left = (budget - menu[0]) * count.sum() * (1 + 1e-12)
    chosen = [0] * len(omega)
    # best saving per bit first; along the hull the savings of one age fall
    for _, k, a in sorted(upgrades):
        cost = (hull[k + 1] - hull[k]) * count[a]
        # what does not fit is passed over, and then nothing older may overtake it
        if cost <= left and chosen[a] == k and (a == 0 or chosen[a - 1] > k):
            left -= cost
            chosen[a] = k + 1
    return [hull[k] for k in chosen]


def _number(budget: Any) -> float:
    """``budget``, which may be infinite, if it is a number."""
    if isinstance(budget, bool) or not isinstance(budget, int | float | np.number):
        raise TypeError(f"budget must be a number, got {budget!r}")
    return float(budget)


def allocate_layers(
    costs: npt.ArrayLike,
    bits: npt.ArrayLike,
    budget: float,
    *,
    sizes: npt.ArrayLike | None = None,
    unit: float = 1 / 64,
) -> list[int]:
    r"""One option for each layer, with the least total cost in a budget (book, eq. kv-layers).

    .. math:: \min_{o} \sum_i c_{i, o_i} \quad \text{with} \quad
              \frac1n \sum_{i=1}^n b_{i, o_i} \le \bar b

    Costs are added up as if layers did not know of each other (our reading of small errors).

    The multiple-choice knapsack problem, solved exactly, for bits in whole units, by dynamic
    programming (H. Kellerer, U. Pferschy, D. Pisinger 2004, ch. 11): cost O(n² × options ×
    (budget - least bits) / unit).

    Parameters
    ----------
    costs : (n, options) array
        What option :math:`o` costs row :math:`i`, say a divergence in nats; a row is one side of
        one layer.
    bits : (n, options) or (options,) array
        Bits per element of each option.
    budget : float
        Mean bits per element allowed.
    sizes : (n,) array, optional
        Elements of each row, of which the mean is taken; by default equal.  Rows differ where keys
        and values have not the same channels, as in models that cache latents.
    unit : float
        Bits are counted in multiples of this, rounded up: an element of the smallest row's.

    Examples
    --------
    >>> costs = [[9.0, 1.0], [2.0, 1.0], [5.0, 1.0]]
    >>> allocate_layers(costs, bits=[2, 4], budget=3.4)
    [1, 0, 1]
    >>> allocate_layers(costs, bits=[2, 4], budget=3.4, sizes=[8, 1, 1])
    [0, 1, 1]
    """
    c = np.asarray(costs, dtype=float)
    if c.ndim != 2 or not c.size or not np.isfinite(c).all():
        raise ValueError(f"costs must be a filled table of finite numbers, got {costs!r}")
    b = np.asarray(bits, dtype=float)
    if b.shape not in (c.shape, c.shape[1:]) or not np.isfinite(b).all():
        raise ValueError(f"bits must be finite, one each of costs {c.shape}, got {bits!r}")
    if not unit > 0:
        raise ValueError(f"unit must be positive, got {unit}")
    size = np.ones(len(c)) if sizes is None else np.asarray(sizes, dtype=float)
    if size.shape != c.shape[:1] or not ((size > 0) & (size < np.inf)).all():
        raise ValueError(f"sizes must be {len(c)} positive numbers, one a row, got {sizes!r}")
    size = size / size.min()
    units = np.ceil(np.broadcast_to(b, c.shape) * size[:, None] / unit - 1e-6).astype(int)
    least = units.min(axis=1)
    room = np.floor(_number(budget) * size.sum() / unit + 1e-6) - least.sum()
    if not room >= 0:
        fewest = least.sum() * unit / size.sum()
        raise ValueError(f"budget must be at least the fewest bits, {fewest:g}, got {budget}")
    spare = int(min(room, (units.max(axis=1) - least).sum()))
    # best[u] is the least cost of the rows so far with at most u units above the least
    best, taken = np.zeros(spare + 1), np.zeros((len(c), spare + 1), dtype=np.int16)
    for i, (row, above) in enumerate(zip(c, units - least[:, None], strict=True)):
        ways = np.full((len(row), spare + 1), np.inf)
        for way, cost, extra in zip(ways, row, above, strict=True):
            if extra <= spare:
                way[extra:] = best[: spare + 1 - extra] + cost
        taken[i], best = ways.argmin(axis=0), ways.min(axis=0)
    chosen, left = [], spare
    for i in range(len(c) - 1, -1, -1):
        chosen.append(int(taken[i, left]))
        left -= units[i, chosen[-1]] - least[i]
    return chosen[::-1]


def allocate_uniform(costs: npt.ArrayLike, bits: npt.ArrayLike, budget: float) -> list[int]:
    """The best option for each side, the same in all layers (book, eq. kv-layers).

    What :func:`allocate_layers` is compared with: it may choose for each layer.  ``costs`` are
    (layers, sides, options), ``bits`` of each option (sides, options), and ``budget`` their mean
    allowed.

    >>> allocate_uniform([[[9.0, 1.0], [3.0, 1.0]]] * 2, bits=[[2, 4], [2, 4]], budget=3)
    [1, 0]
    """
    c, b = np.asarray(costs, dtype=float), np.asarray(bits, dtype=float)
    if c.ndim != 3 or not c.size or b.shape != c.shape[1:]:
        raise ValueError(
            f"costs must be (layers, sides, options) and bits (sides, options), got {c.shape} "
            f"and {b.shape}"
        )
    for name, numbers in (("costs", c), ("bits", b)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name} must be finite, got {numbers.tolist()}")
    total, sides = c.sum(axis=0), np.arange(c.shape[1])
    every = itertools.product(range(c.shape[2]), repeat=c.shape[1])
    fit = [o for o in every if b[sides, o].mean() <= _number(budget) + 1e-9]
    if not fit:
        fewest = b.min(axis=1).mean()
        raise ValueError(f"budget must be at least the fewest bits, {fewest:g}, got {budget}")
    return list(min(fit, key=lambda o: float(total[sides, o].sum())))


def _convex_hull(menu: list[int], error: dict[int, float]) -> list[int]:
    """Widths on the lower convex hull of ``error`` over bits; the others are never the best."""
    hull: list[int] = []
    for w in menu:
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (error[a] - error[b]) * (w - b) > (error[b] - error[w]) * (b - a):
                break
            hull.pop()
        hull.append(w)
    while len(hull) > 1 and error[hull[-1]] >= error[hull[-2]]:
        hull.pop()
    return hull
