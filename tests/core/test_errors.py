"""errors: what a reader and a program learn from one."""

import pytest

from edgewright.core import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ModelError, "model_error"),
        (errors.NotFoundError, "not_found_error"),
        (errors.InputError, "input_error"),
        (errors.EdgewrightError, "edgewright_error"),
    ],
)
def test_the_name_on_the_wire(kind, code):
    """Stable, in words joined by underscores."""
    assert kind("x").code == code


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (errors.ModelError, 1),
        (errors.UsageError, 2),
        (errors.ConfigError, 2),
        (errors.ContractError, 3),
        (errors.InconclusiveError, 4),
    ],
)
def test_the_exit_codes_that_are_promised(kind, exit_code):
    """1 failed, 2 usage, 3 contract not met, 4 inconclusive."""
    assert kind("x").exit_code == exit_code


@pytest.mark.parametrize(
    ("kind", "retry"),
    [
        (errors.TransportError, True),
        (errors.ExpiredError, True),
        (errors.StorageError, True),
        (errors.DeadlineError, True),
        (errors.RollbackError, False),
        (errors.BundleError, False),
    ],
)
def test_what_may_be_tried_again(kind, retry):
    """Networks, clocks and full disks get better by themselves; wrong bytes do not."""
    assert kind("x").retry is retry


def test_the_message_and_the_hint_are_apart():
    """str() is the message alone; the hint is empty unless given."""
    error = errors.ModelError("too big", hint="Prune it.")

    assert str(error) == "too big"
    assert (error.hint, errors.ModelError("x").hint) == ("Prune it.", "")
