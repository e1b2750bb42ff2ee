"""The one error tree.

EdgewrightError
├── UsageError            what was asked cannot mean anything (a flag, a key, a name)
├── ConfigError           a configuration file or a value in it is wrong
├── ModelError            the model is not what this step needs
│   ├── ParityError       a converted model does not answer like its source
│   └── QuantizeError     a tensor or a graph cannot be quantized
├── DataError             calibration or evaluation data cannot be used
├── ContractError         the contract is not met
│   └── InconclusiveError     the evidence does not decide the contract
├── TargetError           a graph cannot be lowered, or the target cannot run here
├── EngineError           an engine cannot load or run this model here
│   ├── InputError        a request does not fit the model's inputs
│   └── DeadlineError     the answer would have come too late and was refused
├── BundleError           a bundle or a slot is not what its manifest says
│   └── GoldenError       golden answers are not reproduced
├── TrustError            signatures, metadata or keys do not allow this
│   ├── ExpiredError      metadata is too old to act on
│   └── RollbackError     metadata is older than what was already trusted
├── UpdateError           an update was not applied; the running slot is untouched
├── StorageError          the disk refused; what was there before is untouched
├── WireError             a message is not what the protocol says
│   └── TransportError    the other side did not answer as it should (may be retried)
└── FleetError            the control plane refuses
    ├── AccessError       this token may not do that
    ├── NotFoundError     there is no such thing
    └── ConflictError     it has changed in the meantime, or exists already
"""


class EdgewrightError(Exception):
    """Root of every error this package raises on purpose.

    Attributes:
        hint: What the reader can do next, one sentence; empty if nothing helps.
        exit_code: What a command exits with when this error ends it.
        retry: Whether the same call may succeed later without anyone acting.
    """

    exit_code = 1
    retry = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def code(self) -> str:
        """The stable name of this error on the wire: ``model_error`` for ModelError."""
        name = type(self).__name__
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class UsageError(EdgewrightError):
    """What was asked cannot mean anything: a flag, a key, a name."""

    exit_code = 2


class ConfigError(EdgewrightError):
    """A configuration file, or a value in it, is wrong."""

    exit_code = 2


class ModelError(EdgewrightError):
    """The model cannot be used by the step that was asked."""


class ParityError(ModelError):
    """A converted model does not answer like its source."""


class QuantizeError(ModelError):
    """A tensor or a graph cannot be quantized."""


class DataError(EdgewrightError):
    """Calibration or evaluation data cannot be used."""


class ContractError(EdgewrightError):
    """The contract is not met; the message lists what was missed."""

    exit_code = 3


class InconclusiveError(ContractError):
    """The evidence decides neither way; the message says what is still needed."""

    exit_code = 4


class TargetError(EdgewrightError):
    """A graph cannot be lowered to a target, or the target cannot run here."""


class EngineError(EdgewrightError):
    """An engine cannot load or run this model on this machine."""


class InputError(EngineError):
    """A request does not fit the model's inputs; the model was not run."""


class DeadlineError(EngineError):
    """The answer would have come too late and was refused."""

    retry = True


class BundleError(EdgewrightError):
    """A bundle or a slot is not what its manifest says."""


class GoldenError(BundleError):
    """The golden answers of a bundle are not reproduced."""


class TrustError(EdgewrightError):
    """Signatures, metadata or keys do not allow this."""


class ExpiredError(TrustError):
    """Metadata is too old to act on; what runs keeps running."""

    retry = True


class RollbackError(TrustError):
    """Metadata is older than what this device already trusted."""


class UpdateError(EdgewrightError):
    """An update was not applied; the running slot is untouched."""


class StorageError(EdgewrightError):
    """The disk refused to write or to read; what was there before is untouched."""

    retry = True


class WireError(EdgewrightError):
    """A message is not what the protocol says."""


class TransportError(WireError):
    """The other side did not answer as it should; the call may be retried."""

    retry = True


class FleetError(EdgewrightError):
    """The control plane refuses a request."""


class AccessError(FleetError):
    """This token may not do that."""


class NotFoundError(FleetError):
    """There is no such thing."""


class ConflictError(FleetError):
    """It has changed in the meantime, or exists already."""
