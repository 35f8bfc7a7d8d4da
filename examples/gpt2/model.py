"""GPT-2 in Flax nnx: learned positions, pre-norm blocks, tanh GELU, tied embeddings.

    x   = wte[tokens] + wpe[positions]
    x  += attn(ln_1(x));  x += mlp(ln_2(x))        in every block
    out = ln_f(x) wteᵀ

Names and layouts are those of the published checkpoints. Parameters, the statistics of
layer norms and logits are float32; `GPT2Config.dtype` is what matrix products run in.

Reference: Radford et al., Language models are unsupervised multitask learners, 2019.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx


@dataclass(frozen=True)
class GPT2Config:
    """The architecture, and how to run it."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    layer_norm_epsilon: float = 1e-5
    dropout: float = 0.0
    """Of embeddings, attention weights and residual branches, while training."""
    dtype: str = "float32"
    """Of the matrix products; ``"bfloat16"`` for accelerators."""
    scan_layers: bool = False
    """One stacked block under `jax.lax.scan`: compiled once, not once a layer."""
    remat: bool = False
    """Recompute a block's activations in the backward pass instead of keeping them."""

    def __post_init__(self):
        """Check what no layer checks."""
        if self.n_embd % self.n_head:
            raise ValueError(f"{self.n_head} heads cannot share {self.n_embd} features")


PRESETS = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(n_embd=1024, n_layer=24, n_head=16),
    "gpt2-large": GPT2Config(n_embd=1280, n_layer=36, n_head=20),
    "gpt2-xl": GPT2Config(n_embd=1600, n_layer=48, n_head=25),
    "nano": GPT2Config(257, n_positions=256, n_embd=160, n_layer=3, n_head=4),
}


def preset(name: str, **changes) -> GPT2Config:
    """A named configuration, with changes."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return dataclasses.replace(PRESETS[name], **changes)


class Cache(NamedTuple):
    """Keys and values of the positions seen so far: [layers, batch, room, heads, d]."""

    keys: jax.Array
    values: jax.Array


class Linear(nnx.Linear):
    """A kernel [in, out] and a bias."""

    def __init__(self, config: GPT2Config, n_in: int, n_out: int, rngs, std=0.02):
        """Normal weights, no bias."""
        init = nnx.initializers.normal(std)
        super().__init__(n_in, n_out, dtype=config.dtype, kernel_init=init, rngs=rngs)

    def __call__(self, x):
        """[batch, time, out]."""
        # As one matrix: a CPU differentiates a product of rank 3 at half the speed.
        return super().__call__(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def layer_norm(config: GPT2Config, rngs):
    """Statistics in float32, the exact variance."""
    options = {"epsilon": config.layer_norm_epsilon, "dtype": config.dtype}
    return nnx.LayerNorm(config.n_embd, use_fast_variance=False, rngs=rngs, **options)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Only where there is a key, which is to say while training."""
    return x if key is None else nnx.Dropout(rate)(x, rngs=key)


class Attention(nnx.Module):
    """Causal self-attention; with a cache, over what came before as well."""

    def __init__(self, config: GPT2Config, rngs):
        """Random weights; the way out is scaled down by the depth of the residuals."""
        n, self.config = config.n_embd, config
        self.c_attn = Linear(config, n, 3 * n, rngs)
        self.c_proj = Linear(config, n, n, rngs, 0.02 / (2 * config.n_layer) ** 0.5)

    def __call__(self, x, cache, index, key):
        """[batch, time, n_embd], and the cache with this time in it."""
        heads = (*x.shape[:2], self.config.n_head, -1)
        q, k, v = (a.reshape(heads) for a in jnp.split(self.c_attn(x), 3, axis=-1))
        mask, rate = None, 0.0 if key is None else self.config.dropout
        if cache is not None:
            at, put = (0, index, 0, 0), jax.lax.dynamic_update_slice
            cache = Cache(put(cache.keys, k, at), put(cache.values, v, at))
            (k, v), now = cache, index + jnp.arange(x.shape[1])
            mask = (jnp.arange(k.shape[1]) <= now[:, None])[None, None]
        options = {"dropout_rng": key, "dropout_rate": rate, "broadcast_dropout": False}
        options |= {"mask": mask, "is_causal": cache is None}
        out = nnx.dot_product_attention(q, k, v, **options)
        return self.c_proj(out.reshape(x.shape)), cache


class MLP(nnx.Module):
    """Four times as wide inside."""

    def __init__(self, config: GPT2Config, rngs):
        """Random weights, scaled as in `Attention`."""
        n, width = config.n_embd, 4 * config.n_embd
        self.c_fc = Linear(config, n, width, rngs)
        self.c_proj = Linear(config, width, n, rngs, 0.02 / (2 * config.n_layer) ** 0.5)

    def __call__(self, x):
        """[batch, time, n_embd]."""
        return self.c_proj(nnx.gelu(self.c_fc(x), approximate=True))


class Block(nnx.Module):
    """Attention and MLP, each on the normalised input and added to it."""

    def __init__(self, config: GPT2Config, rngs):
        """Random weights."""
        self.rate = config.dropout
        self.ln_1, self.ln_2 = layer_norm(config, rngs), layer_norm(config, rngs)
        self.attn, self.mlp = Attention(config, rngs), MLP(config, rngs)

    def __call__(self, x, cache, index, key):
        """As `Attention`."""
        keys = (None,) * 3 if key is None else jax.random.split(key, 3)
        out, cache = self.attn(self.ln_1(x), cache, index, keys[0])
        x = x + dropout(out, self.rate, keys[1])
        return x + dropout(self.mlp(self.ln_2(x)), self.rate, keys[2]), cache


class GPT2(nnx.Module):
    """Tokens [batch, time] to float32 logits [batch, time, vocab_size]."""

    def __init__(self, config: GPT2Config, rngs: nnx.Rngs):
        """Random weights."""
        n, layers, self.config = config.n_embd, config.n_layer, config
        init = nnx.initializers.normal(0.02)
        self.wte = nnx.Embed(config.vocab_size, n, embedding_init=init, rngs=rngs)
        self.wpe = nnx.Embed(config.n_positions, n, embedding_init=init, rngs=rngs)
        if config.scan_layers:
            self.h = nnx.vmap(lambda r: Block(config, r))(rngs.split(layers))
        else:
            self.h = nnx.List(Block(config, rngs) for _ in range(layers))
        self.ln_f = layer_norm(config, rngs)

    def __call__(self, tokens, *, cache: Cache | None = None, index=0, key=None):
        """Logits; with a cache, these and the cache after position ``index``."""
        config, time = self.config, tokens.shape[1]
        if time > (most := config.n_positions):
            raise ValueError(f"{time} tokens exceed the model's {most} positions")
        first = keys = None
        if key is not None:
            keys = jax.random.split(key, config.n_layer + 1)
            first, keys = keys[0], keys[1:]
        x = self.wte(tokens) + self.wpe(index + jnp.arange(time))
        x = dropout(x, config.dropout, first).astype(config.dtype)
        x, cache = self._blocks(x, cache, index, keys)
        x, table = self.ln_f(x), self.wte.embedding[...].astype(config.dtype)
        logits = jnp.einsum("btd,vd->btv", x, table, preferred_element_type=jnp.float32)
        return logits if cache is None else (logits, cache)

    def _blocks(self, x, cache, index, keys):
        """All layers: a loop, or a scan over the stacked one."""
        template = nnx.split(self.h if self.config.scan_layers else self.h[0])[0]

        def apply(x, layer):
            params, layer_cache, key = layer
            return nnx.merge(template, params)(x, layer_cache, index, key)

        apply = jax.checkpoint(apply) if self.config.remat else apply
        if self.config.scan_layers:
            return jax.lax.scan(apply, x, (nnx.split(self.h)[1], cache, keys))
        caches = []
        for i, block in enumerate(self.h):
            own, key = jax.tree.map(lambda a, i=i: a[i], (cache, keys))
            x, own = apply(x, (nnx.split(block)[1], own, key))
            caches.append(own)
        return x, jax.tree.map(lambda *layers: jnp.stack(layers), *caches)
