"""An hourly series of three channels: trend, daily and weekly seasons, and noise."""

import numpy as np

CHANNELS = ["load", "temperature", "price"]


def series(hours: int, seed: int) -> np.ndarray:
    """(hours, 3), each channel in units of its own, float32."""
    random = np.random.default_rng(seed)
    t = np.arange(hours)
    day, week = 2 * np.pi * t / 24, 2 * np.pi * t / (24 * 7)
    weather = np.zeros(hours)  # what no season explains, and what fades slowly
    for i in range(1, hours):
        weather[i] = 0.97 * weather[i - 1] + random.normal(scale=0.3)
    temperature = 12 + 6 * np.sin(day - 2.2) + 2 * weather
    load = 300 + 0.01 * t + 60 * np.sin(day - 1.5) + 25 * np.sin(2 * day) + 30 * np.sin(week)
    load = load - 4 * (temperature - 12) + random.normal(scale=6, size=hours)
    price = 0.04 + 2e-4 * (load - 300) + random.normal(scale=0.002, size=hours)
    return np.stack([load, temperature, price], axis=1).astype("float32")
