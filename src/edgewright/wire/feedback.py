"""What became of an installation, told in the telemetry stream."""

import msgspec

STAGED = "staged"  # installed, verified, not running
REFUSED = "refused"  # not activated: signature, format, golden check
ACTIVATED = "activated"  # serving, on trial
CONFIRMED = "confirmed"  # trial passed: this is what the device runs
REVERTED = "reverted"  # trial failed: the previous slot serves again
RETURNED = "returned"  # went back because the fleet said so


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """One transition of one slot.

    Attributes:
        transition: Number of the transition on this device; each is told once.
        at: Wall time of the device.
        what: One of the words above.
        release: ``name@N`` of the slot meant.
        digest: Of the slot meant.
        rollout: What asked for it; empty if nothing did.
        serving: Digest that serves after the transition; empty if none.
        reason: One sentence with the numbers.
    """

    transition: int
    at: str
    what: str
    release: str
    digest: str
    rollout: str = ""
    serving: str = ""
    reason: str = ""
