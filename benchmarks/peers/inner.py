"""The inner optimizers: what a learning rate is handed to.

Each has the one learning rate that somebody takes who tunes nothing. Optax itself names
none for these, so it is the value of the method's paper or of a widely used library.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import optax


class Inner(NamedTuple):
    """An optimizer without its learning rate."""

    # learning_rate -> transformation; a number, a traced f32[] or an Optax schedule.
    # The library's own factory, so that its other arguments can be reached.
    factory: Callable[..., optax.GradientTransformation]
    default_rate: float  # of the self-tuning protocol
    source: str  # where that default comes from


OPTIMIZERS: dict[str, Inner] = {
    "sgd": Inner(
        functools.partial(optax.sgd, momentum=0.9),
        0.01,
        "keras.optimizers.SGD; momentum of Sutskever et al. 2013",
    ),
    "adam": Inner(optax.adam, 1e-3, "Kingma, Ba 2015, algorithm 1"),
    "adamw": Inner(optax.adamw, 1e-3, "torch.optim.AdamW; Loshchilov, Hutter 2019"),
    "adagrad": Inner(optax.adagrad, 0.01, "torch.optim.Adagrad; Duchi et al. 2011"),
    "rmsprop": Inner(optax.rmsprop, 1e-3, "keras.optimizers.RMSprop; Hinton 2012"),
    "lion": Inner(optax.lion, 1e-4, "lion_pytorch.py of google/automl; Chen 2023"),
    "muon": Inner(
        optax.contrib.muon, 0.02, "Muon of github.com/KellerJordan/Muon; Jordan 2024"
    ),
    # The rate is the size of the steps, as for all others here. Optax's default, and
    # Shazeer and Stern's, is a share of each layer's size instead. Below 128 x 128 a
    # layer's second moments are kept whole.
    "adafactor": Inner(
        functools.partial(optax.adafactor, multiply_by_parameter_scale=False),
        1e-3,
        "Adafactor of Hugging Face transformers, its example of a fixed rate with "
        "scale_parameter and relative_step off; Shazeer, Stern 2018",
    ),
}
