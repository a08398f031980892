"""Where the time of a training step goes."""

from __future__ import annotations

from dataclasses import dataclass

# A step, in its order. data: waiting for the next batch. transfer: to the device. other: all that none of these is.
PARTS = ("data", "transfer", "forward", "backward", "step", "other")

# A backward pass computes two products of the forward's size for each layer: the gradients of its input and of its weights.
PASSES = 3


@dataclass(frozen=True)
class Profile:
    """Measured training steps.

    seconds: medians over steps, by the names in PARTS; a part that is missing took no time. images: per step, on this device.
    macs: multiply-adds of one image's forward pass. peak_macs: multiply-adds a second that the device reached on large matrix
    products in the same precision; bandwidth: bytes a second that it copied; both None where not measured.
    traffic: the least bytes that a step's passes read and write, None where not known. device, precision: as words.
    """

    seconds: dict[str, float]
    images: int
    macs: int
    peak_macs: float | None = None
    bandwidth: float | None = None
    traffic: float | None = None
    device: str = ""
    precision: str = ""

    @property
    def total(self) -> float:
        """Seconds of a step."""
        return sum(self.seconds.values())

    @property
    def computing(self) -> float:
        """Seconds of forward and backward pass."""
        return self.seconds.get("forward", 0.0) + self.seconds.get("backward", 0.0)

    @property
    def images_per_second(self) -> float:
        """Images trained on per second; 0 where no time was measured."""
        return self.images / self.total if self.total > 0 else 0.0

    @property
    def macs_per_second(self) -> float:
        """Multiply-adds per second within the two passes; 0 where no time was measured."""
        return PASSES * self.macs * self.images / self.computing if self.computing > 0 else 0.0

    @property
    def peak_share(self) -> float | None:
        """Which share of the device's measured peak the passes reach."""
        return self.macs_per_second / self.peak_macs if self.peak_macs else None

    @property
    def bandwidth_share(self) -> float | None:
        """Which share of the device's measured bandwidth the passes need at least."""
        known = self.traffic is not None and self.bandwidth and self.computing > 0
        return self.traffic / self.computing / self.bandwidth if known else None  # type: ignore[operator]
