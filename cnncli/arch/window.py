"""The arithmetic of a sliding window along one axis: (N - F + 2P)/S + 1.

N input size, F kernel size, S stride, P padding on each side, D dilation. With dilation the window spans
D(F - 1) + 1 pixels and that span takes the place of F. Notation of the lecture; torch floors the quotient
(or, with `ceil`, rounds it up and drops a last window that would start in the right padding).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fractions import Fraction


class Window(NamedTuple):
    """A window that slides along one axis. All lengths in pixels of its input."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    ceil: bool = False

    @property
    def span(self) -> int:
        """Pixels from the first to the last one that the window touches, D(F - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    def exact(self, n: int) -> Fraction:
        """(N - F + 2P)/S + 1 as it stands, not rounded: 7/3 where the lecture says 2.33, "does not fit"."""
        from fractions import Fraction  # late: only explanations need it, and `cnn shape` should start at once

        return Fraction(n - self.span + 2 * self.padding, self.stride) + 1

    def size(self, n: int) -> int:
        """Output size for an input of `n` pixels, rounded as torch rounds; below 1 when the window does not fit."""
        room = n - self.span + 2 * self.padding
        if not self.ceil:
            return room // self.stride + 1
        rounded_up = -(-room // self.stride) + 1
        last_start = (rounded_up - 1) * self.stride
        return rounded_up - 1 if last_start >= n + self.padding else rounded_up

    def fits(self, n: int) -> bool:
        """Whether the windows tile the padded input with nothing left over."""
        room = n - self.span + 2 * self.padding
        return room >= 0 and room % self.stride == 0

    def remainder(self, n: int) -> int:
        """Pixels of the padded input, at its end, that no window sees. 0 when it fits; 0 where `ceil` looks past the end."""
        size = self.size(n)
        if size < 1:
            return n + 2 * self.padding
        return max(0, n + 2 * self.padding - ((size - 1) * self.stride + self.span))

    def smallest(self) -> int:
        """The smallest input with an output of at least 1."""
        reach_past_end = self.stride - 1 if self.ceil else 0
        return max(1, self.span - 2 * self.padding - reach_past_end)

    def nearest_inputs(self, n: int) -> tuple[int, ...]:
        """The nearest input sizes below and above `n` that fit exactly (only `n` itself when it fits)."""
        if self.fits(n):
            return (n,)
        below = next((m for m in range(n - 1, self.smallest() - 1, -1) if self.fits(m)), None)
        start = max(n + 1, self.smallest())
        above = next(m for m in range(start, start + self.stride) if self.fits(m))
        return (above,) if below is None else (below, above)

    def nearest_strides(self, n: int) -> tuple[int, ...]:
        """The nearest strides below and above this one with which `n` pixels fit exactly (only this one when it fits).

        None above the span, which would leave pixels between the windows; empty when the padded input is smaller than the window.
        """
        if self.fits(n):
            return (self.stride,)
        room = n - self.span + 2 * self.padding  # a larger stride than this one divides it no more
        below = (s for s in range(min(self.stride - 1, room), 0, -1) if room % s == 0)
        above = (s for s in range(self.stride + 1, min(self.span, room) + 1) if room % s == 0)
        return tuple(stride for side in (below, above) if (stride := next(side, None)) is not None)

    def nearest_paddings(self, n: int) -> tuple[int, ...]:
        """The nearest paddings below and above this one with which `n` pixels fit exactly (only this one when it fits).

        At most the span - 1: with more, windows would see nothing but padding. Empty where none fits: a padding adds an even
        number of pixels, so an odd remainder stays with an even stride.
        """
        if self.fits(n):
            return (self.padding,)
        fewest = max(0, -(-(self.span - n) // 2))  # fewer, and the padded input is smaller than the window
        below = (p for p in range(min(self.padding, self.span) - 1, fewest - 1, -1) if self._replace(padding=p).fits(n))
        above = (p for p in range(max(self.padding + 1, fewest), self.span) if self._replace(padding=p).fits(n))
        return tuple(padding for side in (below, above) if (padding := next(side, None)) is not None)
