r"""What a decoder costs to run, on paper: bytes, multiplications, seconds.

Counts are exact for the decoder of this chapter and for published ones of its kind (RMSNorm,
grouped queries, SwiGLU).  Seconds are a *roofline*: the least that the arithmetic and the memory of
a machine allow, not what a server reaches.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from genopt_core.checks import fraction, open_fraction, real, whole
from genopt_core.one_model.config import ModelConfig
from genopt_core.positions import slopes

__all__ = [
    "MACHINES",
    "METHODS",
    "PUBLISHED",
    "Budget",
    "Machine",
    "Serving",
    "attention_flops",
    "bias_window",
    "budget_of",
    "cache_bytes",
    "parameters",
    "roofline_seconds",
    "text_tokens",
    "weight_flops",
    "window_density",
    "with_methods",
]


def _decoder(
    vocabulary: int, layers: int, width: int, heads: int, key_heads: int, hidden: int
) -> ModelConfig:
    return ModelConfig(
        vocabulary=vocabulary,
        layers=layers,
        width=width,
        heads=heads,
        key_heads=key_heads,
        hidden=hidden,
    )


PUBLISHED: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "Llama-2-7B": _decoder(32_000, 32, 4096, 32, 32, 11_008),
        "Mistral-7B": _decoder(32_000, 32, 4096, 32, 8, 14_336),
        "Qwen2.5-7B": _decoder(152_064, 28, 3584, 28, 4, 18_944),
        "Llama-3-8B": _decoder(128_256, 32, 4096, 32, 8, 14_336),
        "Qwen2.5-32B": _decoder(152_064, 64, 5120, 40, 8, 27_648),
        "Llama-3-70B": _decoder(128_256, 80, 8192, 64, 8, 28_672),
    }
)
"""Shapes of published models, from the configurations that came with their weights (Touvron et al.
2023, Jiang et al. 2023, Grattafiori et al. 2024, Qwen Team 2024).  All have a second matrix for the
output; Qwen's biases of queries, keys and values, 0.002 % of its numbers, are left out."""


@dataclass(frozen=True)
class Machine:
    """Peak arithmetic in FLOP/s at 16 bits without sparsity, bytes a second, and bytes of memory.

    Examples
    --------
    >>> round(MACHINES["H100"].rate / MACHINES["H100"].bandwidth)
    295
    """

    rate: float
    bandwidth: float
    memory: float

    def __post_init__(self) -> None:
        for name in ("rate", "bandwidth", "memory"):
            if real(getattr(self, name), name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")


MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        "H100": Machine(989.4e12, 3.35e12, 80e9),
        "A100": Machine(312e12, 2.039e12, 80e9),
        "laptop": Machine(1e12, 0.1e12, 32e9),
    }
)
"""NVIDIA's data sheets (SXM, 80 GB); the laptop is a round number for a processor without a
graphics card."""

METHODS = ("tokenizer", "positions", "attention", "settings", "cache")
"""The five of this book, in the order of its chapters but for the search, which is the fourth."""


def parameters(config: ModelConfig, *, tied: bool = False) -> int:
    r"""Numbers that a decoder learns (book, eq. one-parameters).

    .. math:: N = L\,(2 d H h + 2 d K h + 3 d f + 2 d) + (2 - t)\,V d + d

    Parameters
    ----------
    config : ModelConfig
        Layers L, width d, heads H of h channels, key heads K, inner width f, vocabulary V; slopes
        that are learned are not counted.
    tied : bool
        Whether one matrix serves for input and output, :math:`t = 1`, as in this chapter's model.

    Examples
    --------
    >>> parameters(PUBLISHED["Llama-3-8B"])
    8030261248
    """
    c = config
    ends = (1 if tied else 2) * c.vocabulary * c.width + c.width
    return c.layers * (_matrices(c) + 2 * c.width) + ends


def _matrices(c: ModelConfig) -> int:
    """Numbers in the matrices of a layer."""
    return (2 * c.heads + 2 * c.key_heads) * c.head_dim * c.width + 3 * c.width * c.hidden


def weight_flops(config: ModelConfig, tokens: int, *, predicted: int = 1) -> int:
    r"""Multiplications and additions with weights for ``tokens`` tokens (book, eq. one-weights).

    .. math:: F_W = 2n\,L\,(2 d H h + 2 d K h + 3 d f) + 2 p\,V d

    A multiplication with its addition counts two.  The output matrix is needed for the
    ``predicted`` tokens p alone, one after a prompt.  Norms, rotations, softmax are left out.

    Examples
    --------
    >>> f"{weight_flops(PUBLISHED['Llama-3-8B'], 1000):.3e}"
    '1.396e+13'
    """
    n, p = whole(tokens, "tokens", 0), whole(predicted, "predicted", 0)
    return 2 * (n * config.layers * _matrices(config) + p * config.vocabulary * config.width)


def attention_flops(
    config: ModelConfig, tokens: int, *, density: float = 1.0, before: int = 0
) -> float:
    r"""Multiplications and additions of causal attention (book, eq. one-attention).

    .. math:: F_A = 4\,L H h\,s \left(n\,n_0 + \frac{n (n + 1)}{2}\right)

    Each query meets the ``before`` tokens :math:`n_0` of the cache, those before it and itself,
    once for its scores and once for the sum of values.  How many key heads there are does not
    matter.

    Parameters
    ----------
    config : ModelConfig
    tokens : int
        New ones, n.
    density : float
        Share s of the pairs that is computed, in (0, 1].
    before : int

    Examples
    --------
    >>> f"{attention_flops(PUBLISHED['Llama-3-8B'], 131_072):.3e}"
    '4.504e+15'
    """
    n, held = whole(tokens, "tokens", 0), whole(before, "before", 0)
    pairs = n * held + n * (n + 1) // 2
    return 4 * config.layers * config.heads * config.head_dim * pairs * fraction(density, "density")


def cache_bytes(config: ModelConfig, tokens: int, *, bits: float = 16.0) -> float:
    r"""Bytes of the keys and values of a text (book, eq. one-cache).

    .. math:: C = 2\,L K h\,n\,\frac{\bar\beta}{8}

    Parameters
    ----------
    config : ModelConfig
    tokens : int
    bits : float
        Mean bits of a number with its metadata, such as
        :func:`genopt_core.kvcache.design_bits` says of a ladder.

    Examples
    --------
    >>> cache_bytes(PUBLISHED["Llama-3-8B"], 131_072) / 2**30
    16.0
    """
    if real(bits, "bits") <= 0:
        raise ValueError(f"bits must be positive, got {bits!r}")
    n = whole(tokens, "tokens", 0)
    return 2 * config.layers * config.key_heads * config.head_dim * n * bits / 8


def text_tokens(size: int, bytes_per_token: float) -> int:
    r"""Tokens of a text (book, eq. one-tokens).

    .. math:: n = \lceil S / \beta_T \rceil

    with its ``size`` S in bytes and the bytes that a token spells on average,
    :math:`\beta_T`.

    >>> text_tokens(1_000_000, 4.0), text_tokens(1_000_000, 4.2)
    (250000, 238096)
    """
    if real(bytes_per_token, "bytes_per_token") <= 0:
        raise ValueError(f"bytes_per_token must be positive, got {bytes_per_token!r}")
    return math.ceil(whole(size, "size", 0) / bytes_per_token)


def roofline_seconds(flops: float, moved: float, machine: Machine) -> float:
    r"""Least seconds for so much arithmetic and so many bytes moved (book, eq. one-roofline).

    .. math:: T = \max\left(\frac{F}{R},\ \frac{M}{B}\right)

    with the machine's rate R and bandwidth B: the two overlap at best.

    Source: Williams, Waterman and Patterson 2009.

    >>> roofline_seconds(2e12, 1e9, Machine(1e12, 1e11, 1e10))
    2.0
    """
    for name, value in (("flops", flops), ("moved", moved)):
        if real(value, name) < 0:
            raise ValueError(f"{name} must be at least 0, got {value!r}")
    return max(flops / machine.rate, moved / machine.bandwidth)


def bias_window(strengths: npt.ArrayLike, bound: float, eps: float) -> np.ndarray:
    r"""Distance from which on a linear bias leaves all keys at most ``eps`` (book, eq. one-window).

    .. math:: D_h = \left\lceil \frac1{m_h}
              \ln\left(1 + e^{2c}\,\frac{1 - \varepsilon}{\varepsilon}\right) \right\rceil

    is what the bound of :func:`genopt_core.positions.tail_bound` says for :math:`b = -m_h\delta` in
    a text without end, so it holds for each text.

    Parameters
    ----------
    strengths : (heads,) array
        Slopes :math:`m_h`; 0 is a head without a bias.
    bound : float
        Largest size c of a score.
    eps : float
        Weight :math:`\varepsilon` that may be lost, in (0, 1).

    Returns
    -------
    (heads,) float64 array
        Whole numbers, infinite for a head without a bias.

    Source: our derivation.

    Examples
    --------
    >>> bias_window([1.0, 0.125, 0.0], bound=10.0, eps=0.001).tolist()
    [27.0, 216.0, inf]
    """
    m, c, e = np.asarray(strengths, dtype=float), real(bound, "bound"), open_fraction(eps, "eps")
    if m.ndim != 1 or not np.isfinite(m).all() or (m < 0).any():
        raise ValueError(f"strengths must be finite and not negative, (heads,), got {strengths!r}")
    if c < 0:
        raise ValueError(f"bound must be at least 0, got {bound!r}")
    far = np.logaddexp(0.0, 2 * c + math.log((1 - e) / e))
    with np.errstate(divide="ignore"):
        return np.ceil(far / m)


def window_density(windows: npt.ArrayLike, tokens: int) -> float:
    r"""Share of causal pairs that are nearer than the windows of their heads (book, eq. one-share).

    .. math:: s = \frac1H \sum_h \frac{w_h n - w_h (w_h - 1) / 2}{n (n + 1) / 2},
              \qquad w_h = \min(D_h, n)

    with the ``windows`` (heads,) D in tokens.

    >>> window_density([2, 4], tokens=4), window_density([1.0], tokens=3)
    (0.85, 0.5)
    """
    n, given = whole(tokens, "tokens"), np.asarray(windows, dtype=float)
    if given.ndim != 1 or not len(given) or not (given >= 1).all():
        raise ValueError(f"windows must be at least 1 each, (heads,), got {windows!r}")
    w = np.minimum(given, n)
    return float((w * n - w * (w - 1) / 2).mean() / (n * (n + 1) / 2))


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is served, and what is assumed of it.

    Parameters
    ----------
    size : int
        Bytes of a text.
    bytes_per_token : float
    batch : int
        Texts at once.
    weight_bits, cache_bits : float
        Of a number.
    density : float
        Share of attention's pairs that is computed while a prompt is read.  A step of decoding
        meets all tokens.
    machine : Machine
        One that holds everything, or several that share the work without loss.
    """

    size: int
    bytes_per_token: float = 4.0
    batch: int = 1
    weight_bits: float = 16.0
    cache_bits: float = 16.0
    density: float = 1.0
    machine: Machine = MACHINES["H100"]

    def __post_init__(self) -> None:
        whole(self.size, "size")
        whole(self.batch, "batch")
        fraction(self.density, "density")
        for name in ("bytes_per_token", "weight_bits", "cache_bits"):
            if real(getattr(self, name), name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Budget:
    """Tokens of a text; bytes of weights and of the caches of all texts; FLOPs of all prompts, in
    attention and with weights; seconds to read the prompts, and for one more token of each text.

    >>> found = budget_of(PUBLISHED["Llama-3-8B"], Serving(size=4 * 131_072))
    >>> found.machines(MACHINES["H100"])
    1
    """

    tokens: int
    weight_bytes: float
    cache_bytes: float
    attention_flops: float
    weight_flops: float
    prefill_seconds: float
    step_seconds: float

    def machines(self, machine: Machine) -> int:
        """How many of a machine hold the weights and the caches."""
        return math.ceil((self.weight_bytes + self.cache_bytes) / machine.memory)


def budget_of(config: ModelConfig, serving: Serving) -> Budget:
    r"""What serving a decoder takes (book, eq. one-prefill).

    .. math:: T_\text{prompt} = T\big(b\,(F_W(n) + F_A(n, s)),\ W + b\,C(n)\big), \qquad
              T_\text{step} = T\big(b\,(F_W(1) + F_A(1; n)),\ W + b\,C(n)\big)

    with the roofline T, a batch b and the bytes W of all weights.  Each moves the weights once, the
    prompt writes the caches once, a step reads them once; what else is moved is left out.

    Examples
    --------
    >>> found = budget_of(PUBLISHED["Llama-3-8B"], Serving(size=4 * 131_072))
    >>> found.tokens, found.cache_bytes / 2**30, round(found.prefill_seconds, 2)
    (131072, 16.0, 6.4)
    """
    s = serving
    n = text_tokens(s.size, s.bytes_per_token)
    weights = parameters(config) * s.weight_bits / 8
    held = s.batch * cache_bytes(config, n, bits=s.cache_bits)
    attention = s.batch * attention_flops(config, n, density=s.density)
    products = s.batch * weight_flops(config, n)
    step = s.batch * (weight_flops(config, 1) + attention_flops(config, 1, before=n))
    return Budget(
        tokens=n,
        weight_bytes=weights,
        cache_bytes=held,
        attention_flops=attention,
        weight_flops=products,
        prefill_seconds=roofline_seconds(attention + products, weights + held, s.machine),
        step_seconds=roofline_seconds(step, weights + held, s.machine),
    )


def with_methods(
    config: ModelConfig,
    serving: Serving,
    methods: Collection[str],
    *,
    fewer_tokens: float = 0.0,
    free_heads: float = 0.5,
    strength: float = 4.0,
    bound: float = 50.0,
    eps: float = 1e-3,
    density: float = 0.25,
    cache_bits: float = 3.0,
) -> Serving:
    r"""The same serving with some of the five methods.

    Parameters
    ----------
    config, serving
        The base.
    methods : collection of str
        Some of `METHODS`.  Settings that a search found change a training; they cost and save
        nothing here.
    fewer_tokens : float
        Share of tokens that the tokenizer saves, in [0, 1).
    free_heads : float
        Share of heads without a bias, in [0, 1]; the others have the slopes ``strength`` / h, and
        keys beyond `bias_window` of ``bound`` and ``eps`` are skipped.  Chapter 3 bounds the
        scores of SmolLM2 by ±12 to ±74.
    density : float
        Share of the pairs that drawn blocks leave.  With positions too, the smaller share counts:
        what is nearly nothing is not saved twice.
    cache_bits : float
        Of a number under the ladder.

    Examples
    --------
    >>> base = Serving(size=400_000)
    >>> with_methods(PUBLISHED["Llama-3-8B"], base, {"attention", "cache"}).density
    0.25
    """
    if unknown := sorted(set(methods) - set(METHODS)):
        raise ValueError(f"methods must be among {', '.join(METHODS)}, got {unknown}")
    out = serving
    if "tokenizer" in methods:
        if not 0 <= real(fewer_tokens, "fewer_tokens") < 1:
            raise ValueError(f"fewer_tokens must be in [0, 1), got {fewer_tokens!r}")
        out = replace(out, bytes_per_token=out.bytes_per_token / (1 - fewer_tokens))
    if "attention" in methods:
        out = replace(out, density=fraction(density, "density"))
    if "positions" in methods:
        biased = config.heads - round(config.heads * fraction(free_heads, "free_heads", zero=True))
        law = slopes(config.heads, "harmonic") * real(strength, "strength")
        law[biased:] = 0
        n = text_tokens(out.size, out.bytes_per_token)
        left = window_density(bias_window(law, bound, eps), n)
        out = replace(out, density=min(out.density, left))
    if "cache" in methods:
        out = replace(out, cache_bits=cache_bits)
    return out
