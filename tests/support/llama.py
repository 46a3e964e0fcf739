"""A real llama.cpp server on loopback with a tiny model of random weights.

It says nothing sensible, which is the point: the protocol, the grammar-bound JSON and the token
counts are real, and none of what it says may survive verification.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["llama_server", "write_random_model"]

_WIDTH, _HEADS, _FEED_FORWARD, _CONTEXT = 32, 2, 64, 65536
_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def write_random_model(path: Path) -> None:
    """Write a one-layer llama of random weights whose vocabulary is the bytes of ASCII (100 kB)."""
    import gguf
    import numpy as np

    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{i:02X}>".encode() for i in range(128))]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 128]
    tokens += [*(bytes([c]) for c in range(33, 127)), "\u2581".encode()]  # the last is a blank
    kinds += [gguf.TokenType.NORMAL] * (127 - 33 + 1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(_TEMPLATE)
    rng = np.random.default_rng(0)
    shapes = {
        "token_embd.weight": (len(tokens), _WIDTH),
        "output.weight": (len(tokens), _WIDTH),
        **{f"blk.0.attn_{n}.weight": (_WIDTH, _WIDTH) for n in ("q", "k", "v", "output")},
        "blk.0.ffn_gate.weight": (_FEED_FORWARD, _WIDTH),
        "blk.0.ffn_up.weight": (_FEED_FORWARD, _WIDTH),
        "blk.0.ffn_down.weight": (_WIDTH, _FEED_FORWARD),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, (rng.standard_normal(shape) * 0.3).astype(np.float32))
    for name in ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"):
        writer.add_tensor(name, np.ones(_WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextlib.contextmanager
def llama_server(model: Path) -> Iterator[str]:
    """Serve `model`; yields the OpenAI base URL."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = _CONTEXT
    params.warmup = False
    params.port = 0
    server = xllamacpp.Server(params)
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server
