"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from math import cos, exp, log, pi

from xllm.config import ScheduleConfig

NEAR = 0.8  # of the shorter one's steps over the longer one's, from which a schedule and a run fit


def learning_rate(step: int, peak: float, config: ScheduleConfig) -> float:
    """Rate of optimiser step `step` (from 0): linear warm-up, then `peak` for ever, or hold and decay to `min_lr`.

    `tri-stage` decays exponentially (paper A.3, stage 1), `cosine` along half a cosine (stages 2 and 3).
    """
    if step < config.warmup:
        return config.start_lr + (peak - config.start_lr) * (step + 1) / config.warmup
    step -= config.warmup + config.hold
    if step < 0 or config.decay is None:
        return peak
    part = min(1.0, (step + 1) / config.decay)
    if config.kind == "cosine":
        return config.min_lr + (peak - config.min_lr) * (1 + cos(pi * part)) / 2
    return exp(log(peak) + (log(config.min_lr) - log(peak)) * part)


def misfit(config: ScheduleConfig, steps: int) -> str | None:
    """One line when the schedule ends long before or after a run of `steps` optimiser steps, with the remedy."""
    end = config.warmup if config.end is None else config.end
    if end <= steps if config.end is None else NEAR * steps <= end <= steps / NEAR:
        return None
    left = steps - config.warmup - config.hold
    remedy = f"schedule.decay={left} ends with it" if config.end and left > 0 else "shorten the warm-up and the hold"
    return (
        f"the schedule ends at step {end:,}, the run at step {steps:,}: {remedy}; or change epochs, batch_cost, "
        "accumulate or the number of processes"
    )
