import pytest

for needed in ("flax", "grain", "safetensors", "tokenizers", "tyro"):
    pytest.importorskip(needed)
