"""Where decoded sound belongs in time: gaps become silence, what comes twice is left out, what is lost is known.

Time 0 is where the file begins to play, so that times are those of the picture.
"""

from collections.abc import Sequence

Lost = tuple[float, float]  # start and end, in seconds, of what should have been there

_TOLERANCE = 0.1  # seconds that time stamps may be off; less is not heard, and mending it would be
_EXACT = 0.01  # seconds, where a frame is known to be lacking, or stamps count samples: less than a frame of any codec
_MAX_GAP = 3600.0  # seconds; a longer step forward is another clock and not a pause
_MAX_OVERLAP = 1.0  # seconds; a longer step back is another clock, as where files were joined
_SHORT, _SHORTER = 1.0, 0.02  # seconds, and part of the stated length, that a whole file may lack


def describe(lost: Sequence[Lost]) -> str:
    """What was lost, in words: `damaged: 0.35 s lost at 12.40 s`."""
    seconds = sum(end - start for start, end in lost)
    places = f"at {lost[0][0]:.2f} s" if len(lost) == 1 else f"in {len(lost)} places, the first at {lost[0][0]:.2f} s"
    return f"damaged: {seconds:.2f} s lost {places}"


class Timeline:
    """Places frames one after the other by their time stamps, in seconds.

    `origin` is the stamp of time 0; None means that of the first frame. Frames of formats that count their time instead
    of storing it (`counted`) follow each other, apart from damage. In formats without pauses (`gapless`) a gap is a
    loss, and a step back another file that was joined to the first.
    """

    def __init__(self, origin: float | None = None, counted: bool = False, gapless: bool = False):
        self.origin, self.counted, self.gapless = origin, counted, gapless
        self.position = 0.0  # end of what has been placed
        self.damaged = False  # whether something behind that could not be decoded
        self.lost: list[Lost] = []
        self._hole, self._missing, self._reached = False, 0.0, 0.0

    def reach(self, stamp: float) -> None:
        """Some track of the file goes on until `stamp`."""
        self._reached = max(self._reached, stamp)

    def hole(self) -> None:
        """Bytes of the file were skipped: if a gap follows, it is not a pause."""
        self._hole = True

    def damage(self, seconds: float = 0.0) -> None:
        """Something could not be read or decoded; `seconds` is how long it was, as far as that is known."""
        self.damaged = True
        self._missing += seconds

    def place(self, stamp: float | None, seconds: float) -> float | None:
        """The silence before a frame of `seconds`; None for a frame to be left out."""
        ahead = self._ahead(stamp)
        if ahead < -_TOLERANCE:
            self._lose(self.position, self.position + seconds)
            return None
        exact = self.damaged or (self.gapless and self.position)
        pause = ahead if ahead > (_EXACT if exact else _TOLERANCE) else 0.0
        if pause and (self.damaged or self._hole or self.gapless) and self.position:
            self._lose(self.position, self.position + pause)
        self._hole, self.damaged, self._missing = False, False, 0.0
        self.position += pause + seconds
        return pause

    def _ahead(self, stamp: float | None) -> float:
        """Seconds from the end of what has been placed to the next frame."""
        if self.counted:  # what comes before the first frame may be anything
            return self._missing if self.position else 0.0
        if stamp is None:
            return 0.0
        if self.origin is None:
            self.origin = stamp
        ahead = stamp - self.origin - self.position
        if not -(_TOLERANCE if self.gapless else _MAX_OVERLAP) <= ahead <= _MAX_GAP:
            self.origin, ahead = stamp - self.position, 0.0
        return ahead

    def finish(self, stated: float | None) -> None:
        """Nothing more comes of a file that was to last `stated` seconds, if that is known.

        What could not be decoded at the end of a format that counts its time may be tags of any kind.
        """
        end = self.position + (0.0 if self.counted else self._missing)
        if stated and stated - self._reached > max(_SHORT, _SHORTER * stated):
            end = max(end, stated)
        if end > self.position + _TOLERANCE:
            self._lose(self.position, end)

    def _lose(self, start: float, end: float) -> None:
        if self.lost and self.lost[-1][1] >= start:  # the same place
            first, last = self.lost.pop()
            start, end = first, last + end - start
        self.lost.append((start, end))
