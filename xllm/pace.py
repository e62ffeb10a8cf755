"""How far it pays to look ahead in a draft: measured, not guessed.

On a GPU a pass over many tokens takes as long as one over a single token, and the whole draft is read at once. On a
CPU each token of each row has its price, and most of a poor draft is read for nothing. So passes are timed, and what
became of drafts is counted. A draft whose tokens stand with probability p gives (1 - p^(k+1)) / (1 - p) tokens a pass
if k of them are looked at; k is where tokens per second are most, and 0 switches drafts off.
"""

from collections import deque

import numpy as np

PASSES = 64  # latest ones that count for the price of a pass
TOKENS = 200  # worth of drafts' tokens that count for how often one stands
ENOUGH = 8  # passes before their price is known


class Pace:
    """What passes cost on this machine with this model, and how good its drafts are: shared by all batches."""

    def __init__(self):
        self.passes: deque[tuple[int, int, float]] = deque(maxlen=PASSES)
        self.stood, self.looked_at = 9.0, 10.0

    def time(self, rows: int, width: int, seconds: float) -> None:
        """A pass over `rows` with up to `width` tokens of draft each took so long."""
        self.passes.append((rows, width, seconds))

    def count(self, stood: int, looked_at: int) -> None:
        """So many tokens of a draft stood, of those that were looked at up to the first that did not."""
        fade = max(0.0, 1.0 - looked_at / TOKENS)
        self.stood, self.looked_at = fade * self.stood + stood, fade * self.looked_at + looked_at

    def width(self, rows: int, most: int) -> int:
        """How many tokens of draft to look at in each of `rows`, of at most `most`."""
        if most == 0 or len(self.passes) < ENOUGH:
            return most
        fixed, per_row, per_token = self._prices()
        widths = np.arange(most + 1)
        stands = min(self.stood / self.looked_at, 0.999)
        tokens = (1.0 - stands ** (widths + 1)) / (1.0 - stands)
        return int((tokens / (fixed + rows * (per_row + widths * per_token))).argmax())

    def _prices(self) -> tuple[float, float, float]:
        """Seconds of a pass, of each row in it, and of each token of draft in a row: least squares, none negative."""
        rows, widths, seconds = np.array(self.passes).T
        causes = np.stack([np.ones_like(rows), rows, rows * widths], axis=1)
        found = np.linalg.lstsq(causes / seconds[:, None], np.ones_like(rows), rcond=None)[0]
        floor = 1e-3 * seconds.min()
        return tuple(np.maximum(found, [floor, 0.0, 0.0]))
