"""The colours of a page: told apart by everybody, and whose they are."""

import numpy as np
import pytest

from adaptive_optax.watch import page

pytest.importorskip("matplotlib")


class TestColours:
    """WCAG 2: text needs a contrast of 4.5 against its page, a line of 3."""

    LIGHT = (0.2126, 0.7152, 0.0722)

    @staticmethod
    def linear(color):
        x = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)

    def contrast(self, *colors):
        lights = [self.linear(color) @ self.LIGHT for color in colors]
        return (max(lights) + 0.05) / (min(lights) + 0.05)

    @pytest.mark.parametrize("dark", [False, True])
    def test_contrast(self, dark):
        paper, ink, _, lines = page._PAGES[dark]
        assert self.contrast(ink, paper) > 7
        assert min(self.contrast(line, paper) for line in lines) > 3

    # How protanopes and deuteranopes see linear RGB: Machado and others, 2009.
    SEEN = (
        np.eye(3),
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    )
    XYZ = np.array([[0.4339, 0.3762, 0.1899], LIGHT, [0.0177, 0.1095, 0.8728]])

    @pytest.mark.parametrize("dark", [False, True])
    def test_any_two_are_told_apart_by_everyone(self, dark):
        for seen in self.SEEN:
            rgb = np.array([seen @ self.linear(x) for x in page._PAGES[dark][3]])
            x, y, z = np.cbrt(self.XYZ @ np.clip(rgb, 0, 1).T)
            lab = np.stack([116 * y, 500 * (x - y), 200 * (y - z)])
            apart = np.linalg.norm(lab[:, :, None] - lab[:, None], axis=0)
            assert apart[~np.eye(len(rgb), dtype=bool)].min() > 15
