"""One function's options in the signature of another."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Make = TypeVar("Make", bound=Callable[..., Any])


def takes_options_of(
    of: Callable[..., Any], *fixed: str, **defaults: Any
) -> Callable[[Make], Make]:
    """Write the keyword options of a function where ``**options`` stands in another.

    Editors show them then, and `optax.inject_hyperparams` can call what it decorates.

    Args:
      of: Whose options they are.
      *fixed: Options that are not passed on.
      **defaults: Of options whose default is another one here.
    """

    def decorate(make: Make) -> Make:
        own = inspect.signature(make)
        listed = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        for name, option in inspect.signature(of).parameters.items():
            if option.kind is option.KEYWORD_ONLY and name not in fixed:
                default = defaults.get(name, option.default)
                listed.append(option.replace(default=default))
        make.__signature__ = own.replace(parameters=listed)  # type: ignore
        return make

    return decorate
