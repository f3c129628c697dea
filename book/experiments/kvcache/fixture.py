"""Make book/data/kv_smollm2.npz: real keys, values and queries, 1.2 MB, for pages and tests.

    python -m book.experiments.kvcache.fixture

SmolLM2-135M on 512 tokens of Moby-Dick: layers 0, 12 and 27; keys and values of all 3 key/value
heads after the rotary embedding, and the queries of all 9 heads for the last 64 tokens; float16.
"""

import numpy as np
import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from book.experiments.common.main import parser
from book.experiments.common.places import DATA
from genopt_core import corpora
from genopt_core.files import whole_file
from genopt_core.torch.smollm import load_smollm

LAYERS, TOKENS, QUERIES = (0, 12, 27), 512, 64
TARGET = DATA / "kv_smollm2.npz"


def main() -> None:
    parser(__doc__).parse_args()
    seen = {}

    def watch(module, query, key, value, mask, **kwargs):
        if module.layer_idx in LAYERS:
            seen[module.layer_idx] = (query[0, :, -QUERIES:], key[0], value[0])
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    AttentionInterface.register("genopt_watch", watch)
    tokenizer, model = load_smollm(attention="genopt_watch")
    ids = tokenizer(corpora.load("moby-dick")[30_000:40_000], return_tensors="pt").input_ids
    with torch.no_grad():
        model(ids[:, :TOKENS], use_cache=False)
    q, k, v = (torch.stack([seen[i][j] for i in LAYERS]).half().numpy() for j in range(3))
    with whole_file(TARGET) as file:
        np.savez_compressed(file, Q=q, K=k, V=v, layers=np.array(LAYERS))
    print(TARGET, TARGET.stat().st_size, q.shape, k.shape, v.shape)


if __name__ == "__main__":
    main()
