r"""A Gaussian process over configurations: what `posterior` takes the elite's probability from.

A sum of two kernels: a Matérn 5/2 with one length scale a parameter (categories by whether they
agree), and the mean of one-dimensional kernels, which is the plain method's assumption that
parameters act independently.  Needs SciPy.

Notation, with n trials and d parameters, m rows to predict at::

    rows      (n, d)         encoded configurations
    values    (n,)           scores after the power transform, mean 0 and variance 1
    squares   (d, n, n)      squared distance of two rows by parameter; 0 or 1 for categories
    flat      (d, n * n)     the same
    alone     (n, n)         the additive kernel: mean over parameters
    w         (d,)           inverse squared length scales
    s2, sa    scalars        variances of the Matérn and of the additive part
    noise     scalar         variance of an observation
    theta     (d + 3,)       logarithms of w, s2, noise, sa
    k         (n, n)         covariance of the trials, noise on the diagonal
    lower     (n, n)         its Cholesky factor
    alpha     (n,)           k^-1 values
    u, r      (n, n)         5 times the weighted squared distance, and its root
    _kernel   (m, n)         covariance of new rows with the trials, without noise
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.lapack import dtrtri
from scipy.optimize import fminbound, minimize
from scipy.stats import yeojohnson

from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.space import SearchSpace
from genopt_core.cross_entropy.steps import rank_scores

JITTER = 1e-8
ADDITIVE_WIDTH = 0.08  # squared distance over which one real parameter's own effect is alike
LEAST_GAIN = 1e7 * float(np.finfo(float).eps)  # SciPy's own, by which a fit ends
MANY_PAIRS = 20_000
"""Pairs of rows from which a real parameter's values are first looked through for repeated ones."""
CACHED = 40_000
"""The most squares, by pair and parameter, at a time."""
BOUNDS = (-6.0, 8.0), (-4.0, 4.0), (-14.0, 2.0), (-8.0, 3.0)  # logs: weights, s², noise, s²_a


def warp_exponent(values: Array) -> float:
    """The exponent of the Yeo-Johnson transform that makes values most normal; 1 is none."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            exponent = float(yeojohnson_normmax(_standard(values)))
        except (ValueError, RuntimeError):
            return 1.0
    return exponent if abs(exponent) < 10 else 1.0


def yeojohnson_normmax(values: Array) -> float:
    """The exponent of greatest likelihood: bit for bit SciPy's, which checks each of its steps."""
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    logs, above = np.log1p(np.abs(values)), values >= 0
    upper, lower = logs[above], logs[~above]
    total, half = (np.sign(values) * logs).sum(), -len(values) / 2
    info, out = np.finfo(float), np.zeros_like(values)

    def minus(exponent: float) -> float:
        out[above] = np.expm1(exponent * upper) / exponent if abs(exponent) >= info.eps else upper
        rest = 2 - exponent
        out[~above] = -np.expm1(rest * lower) / rest if abs(exponent - 2) > info.eps else -lower
        variance = out.var()
        if not variance >= info.smallest_normal:
            return math.inf
        found = half * np.log(variance) + (exponent - 1) * total
        return math.inf if np.isinf(found) else -found

    if not values.any():
        return 1.0
    reach = np.log1p(20 * np.abs(values).max())
    low = (np.log(info.tiny) - np.log(info.eps)) / 2 / reach
    high = (np.log(info.max) + np.log(info.eps)) / 2 / reach
    if not above.any():
        low, high = 2 - high, 2 - low
    elif not above.all():
        low, high = max(2 - high, low), min(2 - low, high)
    return float(fminbound(minus, low, high, xtol=1.48e-08))


def normal_scores(values: Array, exponent: float | None) -> Array:
    """Values after the power transform, or by rank if it is None; mean 0, standard deviation 1."""
    if exponent is None:
        return _standard(rank_scores(values))
    z = _standard(values)
    with np.errstate(all="ignore"):
        warped = yeojohnson(z, exponent)
    return _standard(warped if np.isfinite(warped).all() and warped.std() > 1e-6 else z)


def _standard(values: Array) -> Array:
    if np.abs(values).max() > 1e100:  # whose squares would overflow
        values = values / np.abs(values).max()
    return (values - values.mean()) / (values.std() + 1e-12)


class Squares:
    """Squared distances of all pairs of rows by parameter."""

    def __init__(self, squares: Array) -> None:
        self.flat = squares.reshape(len(squares), -1)
        self.shape = squares.shape[1:]

    def weighted(self, w: Array) -> Array:
        """Their sum by weights."""
        return np.asarray((w @ self.flat).reshape(self.shape))

    def slopes(self, h: Array) -> Array:
        """Sums over all pairs of ``h`` times the squares, by parameter."""
        return np.asarray(self.flat @ h.ravel())


class Products:
    r"""The same of a conditional space, from products of matrices.

    .. math:: \sum_{ik} h_{ik} (f_i - f_k)^2 = 2 \sum_i f_i^2 (h 1)_i - 2 \sum_i f_i (h f)_i

    for symmetric h.  A category has one f a code, 1 over the root of 2 where a row has it.
    """

    def __init__(self, space: SearchSpace, off: Array, codes: Array) -> None:
        numbers, owner = np.flatnonzero(~space.is_category), space.codes[2]
        owner = owner[space.is_category[owner]]
        self.size = len(space)
        self.factors = np.hstack(
            [off[:, numbers], codes[:, : len(owner)].astype(float) * math.sqrt(0.5)]
        )
        self.owner = np.concatenate([numbers, owner])
        self.squares = self.factors**2

    def weighted(self, w: Array) -> Array:
        """Sums of squared distances by weights."""
        scaled = self.factors * np.sqrt(w)[self.owner]
        found = scaled @ scaled.T
        own = np.diag(found).copy()
        found *= -2
        found += own
        found += own[:, None]
        return np.maximum(found, 0.0, out=found)

    def slopes(self, h: Array) -> Array:
        """Sums over all pairs of ``h`` times the squares, by parameter."""
        each = h.sum(1) @ self.squares - np.einsum("ij,ij->j", self.factors, h @ self.factors)
        return np.bincount(self.owner, 2 * each, self.size)


class Side(NamedTuple):
    """The trials' part in how many parameters agree, in a conditional space."""

    codes: Array
    """Which code each discrete parameter has, by trial."""
    scaled: Array
    """Real parameters less those of `SearchSpace.rest`, on the scale of the additive kernel."""
    apart: Array
    """How near they are to those."""
    near: Array
    """The same summed over parameters."""


class GaussianProcess:
    r"""Regression on encoded rows, hyperparameters at the maximum of their posterior.

    .. math:: k(x, x') = s^2 M_{5/2}\Bigl(\sum_j w_j \Delta_j^2\Bigr) + s_a^2 \frac1d \sum_j k_j

    If ``deterministic``, next to no noise is expected.
    """

    def __init__(self, space: SearchSpace, deterministic: bool) -> None:
        self.space = space
        size = len(space)
        self.log_mean = np.array([1.0] * size + [0.0, -8.0 if deterministic else -4.0, -1.5])
        self.log_std = np.array([1.5] * size + [1.0, 2.0, 1.5])
        self.theta = self.log_mean

    def _squares(self, a: Array, b: Array) -> Array:
        """Squared distances by parameter, shape (parameters, len(a), len(b))."""
        a, b = self.space.unit(a).T, self.space.unit(b).T
        squares = (a[:, :, None] - b[:, None, :]) ** 2
        squares[self.space.is_category] = squares[self.space.is_category] != 0
        return squares

    def _alone(self, squares: Array) -> Array:
        real = self.space.is_real
        near = np.exp(squares[real] / -ADDITIVE_WIDTH).sum(0)
        return (near + (squares[~real] < 1e-12).sum(0)) / len(real)

    def fit(
        self, rows: Array, values: Array, iterations: int = 30, tolerance: float = LEAST_GAIN
    ) -> Array:
        """Hyperparameters (logarithms) from a fixed start, so that they depend on nothing else.

        The search ends when a step gains less than ``tolerance`` of the posterior's logarithm.
        """
        pairs, alone = self._pairs(rows)
        bounds = [BOUNDS[0]] * len(self.space) + list(BOUNDS[1:])
        found = minimize(
            self._loss,
            self.log_mean,
            args=(pairs, alone, values),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": iterations, "ftol": tolerance},
        )
        return np.asarray(found.x)

    def _pairs(self, rows: Array) -> tuple["Squares | Products", Array]:
        """The distances of all pairs of rows, and the additive kernel of them."""
        if self.space.is_conditional:
            off, codes = self._split(rows)
            near = self._agreement(off, codes, self._side(off, codes))
            return Products(self.space, off, codes), near / len(self.space)
        squares = self._squares(rows, rows)
        return Squares(squares), self._alone(squares)

    def _loss(
        self, theta: Array, pairs: "Squares | Products", alone: Array, y: Array
    ) -> tuple[float, Array]:
        """Negative log posterior of the hyperparameters and its gradient."""
        n, size = len(y), len(self.space)
        w = np.exp(theta[:size])
        s2, noise, sa = np.exp(theta[size:])
        u = 5 * pairs.weighted(w)
        r = np.sqrt(u + 1e-12)
        decay = np.exp(-r)
        matern = (1 + r + u / 3) * decay
        k = s2 * matern + sa * alone
        k[np.diag_indices(n)] += noise + JITTER * (s2 + sa)
        try:
            lower = cholesky(k, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        inverse = solve_triangular(lower, np.eye(n), lower=True, check_finite=False)
        inverse = inverse.T @ inverse
        a = inverse @ y
        g = 0.5 * (inverse - np.outer(a, a))
        h = g * (s2 * (-5 / 6) * (1 + r) * decay)
        slope = np.concatenate(
            [
                pairs.slopes(h) * w,
                [(g * s2 * matern).sum(), np.trace(g) * noise, (g * sa * alone).sum()],
            ]
        )
        z = (theta - self.log_mean) / self.log_std
        loss = 0.5 * y @ a + np.log(np.diag(lower)).sum() + 0.5 * (z * z).sum()
        return float(loss), slope + z / self.log_std

    def condition(self, theta: Array, rows: Array, values: Array) -> "GaussianProcess":
        """Take over hyperparameters and data; returns itself."""
        size = len(self.space)
        self.theta, self.rows = theta, rows
        self.w = np.exp(theta[:size])
        self.s2, self.noise, self.sa = (float(v) for v in np.exp(theta[size:]))
        if self.space.is_conditional:
            split = self._split(rows)
            self._known = self._factors(*split, False).T.copy(), self._side(*split)
        k = self._kernel(rows, rows)
        self._own = k.copy()
        k[np.diag_indices(len(values))] += self.noise + JITTER * (self.s2 + self.sa)
        self.lower = cholesky(k, lower=True, check_finite=False)
        if self.space.is_conditional:
            self._inverse = dtrtri(self.lower, lower=1)[0].T.copy()
        half = solve_triangular(self.lower, values, lower=True, check_finite=False)
        self.alpha = solve_triangular(self.lower.T, half, lower=False, check_finite=False)
        return self

    def _kernel(self, a: Array, b: Array) -> Array:
        """Covariances; bit for bit those of `_squares` and `_alone`.

        In a conditional space to rounding only, by `_factors`.  Else a part of the rows at a
        time, so that the squares stay in the processor's cache.  Candidates differ from a few rows
        in one coordinate, so most values of a real parameter repeat: where it pays, what depends on
        one value is computed once and handed out.
        """
        if self.space.is_conditional:
            if b is self.rows:
                factors, side = self._known
            else:
                split = self._split(b)
                factors, side = self._factors(*split, False).T, self._side(*split)
            split = self._split(a)
            u = self._factors(*split, True) @ factors
            return self._matern(np.maximum(u, 0.0, out=u), self._agreement(*split, side))
        left, right = self.space.unit(a), self.space.unit(b)
        real, category = self.space.is_real, self.space.is_category
        reals, levels = np.flatnonzero(real), np.flatnonzero(~real)
        repeats = len(a) * len(b) >= MANY_PAIRS
        near = np.zeros((len(a), len(b)))
        for i in reals if repeats else ():
            values, at = np.unique(left[:, i], return_inverse=True)
            near += np.exp((values[:, None] - right[:, i]) ** 2 / -ADDITIVE_WIDTH)[at]
        u = np.empty_like(near)
        size = max(1, CACHED // max(1, len(b) * len(real)))
        for start in range(0, len(a), size):
            part = slice(start, start + size)
            # parameters innermost, as `_squares` has them: `tensordot` then adds in the same order
            squares = left[part, None] - right
            squares *= squares
            if category.any():
                squares[..., category] = squares[..., category] != 0
            u[part] = np.tensordot(self.w, squares.transpose(2, 0, 1), 1)
            for i in () if repeats else reals:
                near[part] += np.exp(squares[..., i] / -ADDITIVE_WIDTH)
            if len(levels):
                near[part] += (squares[..., levels] < 1e-12).sum(-1)
        return self._matern(u, near)

    def _matern(self, u: Array, near: Array) -> Array:
        """The covariances of weighted squared distances ``u`` and of how many parameters agree.

        Writes into both; `s2 * (1 + r + u / 3) * exp(-r) + sa * near / d` in this order.
        """
        u *= 5
        r = u + 1e-12
        np.sqrt(r, out=r)
        u /= 3
        u += 1 + r
        u *= self.s2
        np.negative(r, out=r)
        u *= np.exp(r, out=r)
        near /= len(self.space)
        near *= self.sa
        u += near
        return u

    def _split(self, rows: Array) -> tuple[Array, Array]:
        """Numbers less those of `SearchSpace.rest`, and which code each discrete parameter has."""
        space = self.space
        off = space.unit(rows - space.rest)
        off[:, space.is_category] = 0.0
        columns, starts, owner = space.codes
        at = (rows[:, columns] + starts).astype(np.intp)
        at += len(owner) * np.arange(len(rows))[:, None]
        codes = np.zeros((len(rows), len(owner)), np.float32)
        codes.ravel()[at] = 1.0
        return off, codes

    def _factors(self, off: Array, codes: Array, weigh: bool) -> Array:
        r"""What the distances of a conditional space are products of, (rows, factors).

        .. math:: \sum_j w_j (a_j - b_j)^2
                  = \sum_j w_j a_j^2 + \sum_j w_j b_j^2 - 2 \sum_j w_j a_j b_j
        """
        category, size = self.space.is_category, len(self.space)
        owner = self.space.codes[2]
        owner = owner[category[owner]]
        weight = np.where(category, 0.0, self.w)
        found = np.empty((len(off), size + len(owner) + 2))
        found[:, -2:] = 1.0
        np.matmul(off * off, weight, out=found[:, -2 if weigh else -1])
        if weigh:
            np.multiply(off, -2 * weight, out=found[:, :size])
            np.multiply(codes[:, : len(owner)], -self.w[owner], out=found[:, size:-2])
            found[:, -2] += self.w[category].sum()
        else:
            found[:, :size] = off
            found[:, size:-2] = codes[:, : len(owner)]
        return found

    def _side(self, off: Array, codes: Array) -> "Side":
        """What `_agreement` computes once for the trials."""
        real = self.space.is_real
        scaled = off[:, real].T / math.sqrt(ADDITIVE_WIDTH)
        apart = np.exp(-scaled * scaled)
        return Side(codes.T.copy(), scaled, apart, apart.sum(0))

    def _agreement(self, off: Array, codes: Array, known: "Side") -> Array:
        """How many parameters agree, real ones by how near they are, (rows, trials).

        A real parameter is gone through only for rows in which it exists.
        """
        near = known.near + codes @ known.codes
        scaled = off[:, self.space.is_real] / math.sqrt(ADDITIVE_WIDTH)
        row, column = np.nonzero(scaled)
        many = np.bincount(row, minlength=len(near))
        first = np.cumsum(many) - many
        for j in range(many.max(initial=0)):  # the first one that exists, the second, …
            at = np.flatnonzero(many > j)
            place = first[at] + j
            which = column[place]
            agree = scaled[at, which, None] - known.scaled.take(which, 0)
            agree *= agree
            np.negative(agree, out=agree)
            np.exp(agree, out=agree)
            agree -= known.apart.take(which, 0)
            if len(at) == len(near):
                near += agree
            else:
                near[at] += agree
        return near

    def mean(self, rows: Array) -> Array:
        """Posterior means of the noiseless function."""
        known = rows is self.rows
        return np.asarray((self._own if known else self._kernel(rows, self.rows)) @ self.alpha)

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """Posterior means and standard deviations of the noiseless function."""
        k = self._kernel(rows, self.rows)
        if self.space.is_conditional:
            v = (k @ self._inverse).T
        else:
            v = solve_triangular(self.lower, k.T, lower=True, check_finite=False)
        variance = self.s2 + self.sa - np.einsum("ij,ij->j", v, v)
        return k @ self.alpha, np.sqrt(np.maximum(variance, 1e-12))


def checkpoint(n: int, refits: int = 10) -> int:
    """The number of trials whose hyperparameters serve ``n`` trials.

    They are fitted again when about one trial in ``refits`` is new, on a fixed schedule, so that a
    resumed search finds the same ones from its first trials.
    """
    step = max(1, 2 ** math.floor(math.log2(max(n / refits, 1))))
    return n - n % step
