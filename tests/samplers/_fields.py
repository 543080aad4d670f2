"""Fields with known solutions, for the tests of the samplers.

Data N(m, s^2) per element and x0 ~ N(0, 1): with V = alpha^2 s^2 + sigma^2 the best estimate of the data is
E[x1 | x] = m + (alpha s^2 / V)(x - alpha m), and the flow keeps quantiles, x_t = alpha m + sqrt(V) x0.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp

MEAN, STD = 0.7, 0.4


@dataclasses.dataclass(frozen=True)
class GaussianField:
    kind: str = "linear"
    mean: float = MEAN
    std: float = STD

    def path(self, t):
        if self.kind == "linear":
            return t, 1.0 - t
        angle = 0.5 * math.pi * (1.0 - t)
        return jnp.cos(angle), jnp.sin(angle)

    def denoise(self, x, t):
        alpha, sigma = self.path(t)
        variance = (alpha * self.std) ** 2 + sigma**2
        noise = sigma * (x - alpha * self.mean) / variance
        data = self.mean + alpha * self.std**2 * (x - alpha * self.mean) / variance
        return data, noise

    def velocity(self, x, t):
        data, noise = self.denoise(x, t)
        if self.kind == "linear":
            return data - noise
        alpha, sigma = self.path(t)
        return 0.5 * math.pi * (sigma * data - alpha * noise)

    def solution(self, x0):
        return self.mean + self.std * x0
