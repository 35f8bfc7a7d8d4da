from pathlib import Path

import numpy as np
import pytest

for needed in ("matplotlib", "tyro"):
    pytest.importorskip(needed)

from examples import reward_cartpole  # noqa: E402
from examples.reward_cartpole import Config  # noqa: E402


def test_a_small_run_prints_and_draws(tmp_path, capsys):
    config = Config(
        rates=(1.0,),
        seeds=2,
        updates=12,
        episodes=4,
        length=20,
        goal=12.0,
        width=4,
        output=tmp_path / "returns.png",
    )
    medians = reward_cartpole.main(config)
    assert set(medians) == {(1.0, arm) for arm in reward_cartpole.ARMS}
    assert medians[1.0, "constant"] <= 48  # a goal that chance reaches
    assert config.output.stat().st_size > 0
    assert capsys.readouterr().out.count("median") == 3


def test_episodes_to_the_goal():
    config = Config(goal=10.0, episodes=8)
    averages = np.array([[1.0, 10.0, 3.0], [1.0, 2.0, 3.0], [11.0, 0.0, 0.0]])
    found = reward_cartpole.episodes_to_goal(config, averages)
    np.testing.assert_array_equal(found, [16.0, np.inf, 8.0])


@pytest.mark.parametrize(
    "config, message",
    [
        (Config(env="pong"), "--env must be cartpole or gymnax:NAME, got 'pong'"),
        (Config(seeds=0), "--seeds must be at least 1, got 0"),
        (Config(rates=()), "--rates must name a base rate, got none"),
        (Config(rates=(1.0, -1.0)), "--rates must be positive, got -1.0"),
        (Config(rates=(float("nan"),)), "--rates must be positive, got nan"),
        (Config(goal=float("nan")), "--goal must be finite, got nan"),
        (Config(mode="foo"), "--mode must be nudge, search or safe, got 'foo'"),
        (Config(output=Path("nowhere/x.png")), "--output nowhere/x.png: there is no"),
    ],
)
def test_bad_settings(config, message):
    with pytest.raises(ValueError, match=message):
        reward_cartpole.main(config)
