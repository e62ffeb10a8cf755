"""Many channels to one: their mean, or the loudest of them where they cancel each other.

A microphone wired the wrong way gives two channels of opposite sign, whose mean is silence. Cancelling is judged over
half a second, and the change is faded: what does not cancel is exactly the mean.
"""

import numpy as np

from xllm.errors import MediaError

_WINDOW = 8000  # samples judged at once: half a second
_FADE = 160  # samples from one mix to the other
_CANCELS, _ADDS = 0.05, 0.2  # power of the sum by the sum of powers: 1 if unrelated; between these nothing changes
_SILENCE = 1e-9  # power: -90 dB


class Downmix:
    """Blocks [S, channels] to blocks [S] of other lengths; how the sound is cut into blocks does not matter."""

    def __init__(self, name: str):
        self.name = name
        self._held, self._count = [], 0
        self._weights: np.ndarray | None = None

    def __call__(self, block: np.ndarray) -> list[np.ndarray]:
        """What is known of the mix now. Raises MediaError for samples that are not numbers."""
        with np.errstate(invalid="ignore", over="ignore"):  # said here, in our words
            odd = not np.isfinite(block.sum())
        if odd and not np.isfinite(block).all():
            raise MediaError(f"{self.name}: holds samples that are not numbers (NaN or infinity); export it again")
        if block.shape[1] == 1:
            return [*self.rest(), block[:, 0]]
        mixed = self.rest() if self._held and self._held[0].shape[1] != block.shape[1] else []
        self._held.append(block)
        self._count += len(block)
        if self._count < _WINDOW:
            return mixed
        whole = np.concatenate(self._held)
        for start in range(0, self._count - _WINDOW + 1, _WINDOW):
            mixed.append(self._mix(whole[start : start + _WINDOW]))
        self._count %= _WINDOW
        self._held = [whole[len(whole) - self._count :]]
        return mixed

    def rest(self) -> list[np.ndarray]:
        """The mix of what is held; the sound, or a stretch of it with these channels, is over."""
        held, self._held, count, self._count = self._held, [], self._count, 0
        return [self._mix(np.concatenate(held))] if count else []

    def _mix(self, window: np.ndarray) -> np.ndarray:
        channels = window.shape[1]
        mean = np.full(channels, 1 / channels, np.float32)
        before = mean if self._weights is None or len(self._weights) != channels else self._weights
        self._weights = self._choose(window, before, mean)
        mixed = window @ self._weights
        if self._weights is not before:
            fade = np.linspace(0, 1, _FADE, dtype=np.float32)[: len(window)]
            mixed[:_FADE] = fade * mixed[:_FADE] + (1 - fade) * (window[:_FADE] @ before)
        return mixed

    @staticmethod
    def _choose(window: np.ndarray, before: np.ndarray, mean: np.ndarray) -> np.ndarray:
        products = window.T @ window / len(window)
        powers = products.diagonal()
        if not _SILENCE < powers.sum() < np.inf:
            return before
        coherence = products.sum() / powers.sum()
        single = before.max() == 1
        if coherence < _CANCELS and not single:
            weights = np.zeros_like(mean)
            weights[powers.argmax()] = 1
            return weights
        return mean if single and coherence > _ADDS else before
