"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from math import cos, exp, log, pi

from xllm.config import ScheduleConfig


def learning_rate(step: int, peak: float, config: ScheduleConfig) -> float:
    """Rate of optimiser step `step` (from 0): linear warm-up, hold at `peak`, then decay to `min_lr`.

    `tri-stage` decays exponentially (paper A.3, stage 1), `cosine` along half a cosine (stages 2 and 3).
    """
    if step < config.warmup:
        return config.start_lr + (peak - config.start_lr) * (step + 1) / config.warmup
    step -= config.warmup + config.hold
    if step < 0:
        return peak
    part = min(1.0, (step + 1) / config.decay)
    if config.kind == "cosine":
        return config.min_lr + (peak - config.min_lr) * (1 + cos(pi * part)) / 2
    return exp(log(peak) + (log(config.min_lr) - log(peak)) * part)
