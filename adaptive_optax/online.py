"""Ready-made optimizers for streams: each example comes once, and things change."""

import functools
from typing import Any

import optax

from adaptive_optax import law as laws
from adaptive_optax import options as checked
from adaptive_optax.act import worth
from adaptive_optax.law import Law, Nudge
from adaptive_optax.optimizers import Rate, takes_options
from adaptive_optax.scheduler import adaptive_scheduler

MODE = "search"
YOUNG = 6.0  # power of the rise of a young run
LARGE = 1.5  # deviations above the mean log norm, from which on a gradient is large


@takes_options("momentum", average=False, mode=MODE)
def online_sgd(
    learning_rate: Rate = 1e-2, momentum: float = 0.0, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """Self-regulating SGD for a stream.

    It differs from `adaptive_sgd` where a stream differs from a data set:

    - The latest parameters count, so none are averaged.
    - Batches far outside the noise are learnt from: they are what the stream is like
      now. `adaptive_sgd` leaves up to 100 of them out, and then starts again.
    - No step promises more than twice its batch's loss (`act.worth`), so a rate that is
      far too high costs little.
    - Small gradients have a small vote on where the rate should go (`Law.large`).
    - The base rate is a guess; the rate rises fast while the run is young, and at half
      the usual pace later (`law_for_streams`).

    On 10 held-out streams, batch 1 and 16, its mean loss before learning is 1.06 of a
    tuned constant rate's at that rate, and 1.05 to 1.16 from a hundredth to a hundred
    times it (docs/gains.md). The worst are linear models that learn from one example at
    a time: 1.2 at that rate for two classes, 1.5 from a hundredth for a regression.

    Args:
      learning_rate: Base rate, > 0, or a schedule.
      momentum: Base momentum, in [0, 1).
      **options: Of `adaptive_scheduler`. ``average`` is False and ``mode`` is
        ``"search"`` unless given; a ``law`` replaces this mode and all of the above but
        the averaging and the limit of a step. With a reward give ``value=None``: the
        limit would be read off a surrogate loss, which may be near 0.

    Returns:
      A transformation; feed it with ``update(grads, state, params, value=loss)``.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If an argument lies outside its domain.

    Example:
      >>> tx = online_sgd(0.05)

    References:
      docs/law.md; the limit of a step is Polyak's and normalised LMS's (`act.worth`).
    """
    factory = functools.partial(worth.momentum_sgd, base_momentum=momentum)
    return adaptive_scheduler(
        factory, learning_rate, momentum=momentum, **_for_streams(options)
    )


@takes_options("momentum", average=False, mode=MODE)
def online_adagrad(
    learning_rate: Rate = 1e-1,
    momentum: float = 0.0,
    initial_accumulator_value: float = 0.1,
    eps: float = 1e-7,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Self-regulating AdaGrad for a stream, with the changes of `online_sgd`.

    AdaGrad's own rate falls like 1/sqrt(t) whatever the stream does; the controller
    raises it again after a shift. On the same streams it is at 1.00 of a tuned constant
    AdaGrad at its rate, and at 1.00 to 1.09 from a hundredth to a hundred times it. A
    regression at batch 1 from a hundredth is the worst, at up to 1.5.

    Args:
      learning_rate: Base rate, > 0, or a schedule.
      momentum: Base momentum, in [0, 1).
      initial_accumulator_value: First sum of squares, >= 0.
      eps: Added to its root, >= 0.
      **options: Of `adaptive_scheduler`, with the defaults of `online_sgd`.

    Returns:
      A transformation; feed it with ``update(grads, state, params, value=loss)``.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If an argument lies outside its domain.

    Example:
      >>> tx = online_adagrad(0.1)

    References:
      J. Duchi, E. Hazan, Y. Singer, *Adaptive subgradient methods for online learning
      and stochastic optimization*, 2011; the loop is docs/law.md.
    """
    factory = functools.partial(
        worth.adagrad, initial_accumulator_value=initial_accumulator_value, eps=eps
    )
    return adaptive_scheduler(
        factory, learning_rate, momentum=momentum, **_for_streams(options)
    )


def law_for_streams(law: Law) -> Law:
    """A law that suits a stream, with the same trust in the base rate.

    ``skip`` is off: after a switch every batch is far outside what came before. The
    nudge upwards is in proportion to the run's age, m <- m + 6 / (t + 20), down to half
    the usual rate. In a young run all that is lost is lost by a rate that is too low:
    the search often ends by chance where a batch is one example. Later a switch raises
    the rate until the agreement, which is an average, has ended, so a fast rise goes
    too far. A start fails on twice the evidence of opposed gradients: those of single
    examples are opposed by chance, and a start that is too high costs little.

    ``large`` is 1.5 deviations above the mean of the log norms. A classifier that
    learns from single examples has small gradients from the many that it knows, and
    large ones from the few that it does not. The small ones agree with the last step,
    and the large ones oppose it; with a vote each, the small ones raise the rate too
    far. Half of ``margin`` is left, because all cosines are smaller so.

    Args:
      law: A law, such as one of ``ao.law.LAWS``.

    Returns:
      The same without ``skip``, with ``large`` and half of ``margin``, and with another
      nudge and audit where it has them.

    Example:
      >>> law_for_streams(Law()).skip is None
      True
    """
    nudge = law.nudge and Nudge(rate=law.nudge.rate * law.half, power=YOUNG)
    audit = law.audit and law.audit._replace(opposed=law.audit.opposed * 2)
    return law._replace(
        skip=None,
        large=LARGE,
        margin=law.margin * law.half,
        nudge=nudge,
        audit=audit,
    )


def _for_streams(options: dict[str, Any]) -> dict[str, Any]:
    """The options with the law of their mode, changed for a stream."""
    mode = options.get("mode", MODE)
    if options.get("law") is not None:
        # `optax.inject_hyperparams` hands every default on, this mode too.
        given = options if mode != MODE else options | {"mode": "nudge"}
        return {"average": False, **given}
    checked.check_mode(mode)
    law = law_for_streams(checked.law_of(mode, None, None))
    mode = mode if isinstance(mode, str) and mode not in laws.LAWS else "nudge"
    return {"average": False, **options, "mode": mode, "law": law}
