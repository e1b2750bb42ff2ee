"""parts and observe: what the server shows of a device is what the device works out."""

from dataclasses import replace

import pytest
from tests.sim.plane import Bench

from edgewright.fleet.rollout import ledger
from edgewright.fleet.rollout.gate import unjudged
from edgewright.fleet.rollout.observe import observe, parts
from edgewright.wire import assignment
from edgewright.wire.feedback import CONFIRMED, REVERTED, STAGED

WAVES = ({"labels": {"site": "lab"}, "bp": 3000}, {"bp": 5000}, {"bp": 10_000})


@pytest.fixture
def bench(tmp_path):
    """Give a control plane with thirty devices, half of them in the lab."""
    made = Bench(tmp_path)
    for number in range(30):
        made.enrol(f"device-{number}", site="lab" if number % 2 else "field")
    yield made
    made.close()


def seen(bench, rollout):
    """Return a rollout, its document, and every device's part."""
    found = bench.rollout(rollout)
    return found, found.document(), bench.read(lambda c: parts(c, found))


@pytest.mark.parametrize("open_waves", [0, 1, 2, 3])
def test_server_and_device_agree(bench, open_waves):
    """For every device the release shown is the one its own rule names."""
    base, fake = bench.publish("digits@1"), bench.publish("digits@2")
    finish(bench, "digits@1")
    rollout = bench.start("digits@2", *WAVES)
    bench.write(lambda c: _open(c, rollout, open_waves))

    _, document, found = seen(bench, rollout)

    assert len(found) == 30
    for part in found:
        number = int(part.name.rpartition("-")[2])
        labels = {"site": "lab" if number % 2 else "field"}
        assert part.wave == assignment.wave_of(document, part.device, labels)
        meant = assignment.assigned(document, part.device, labels)
        assert part.assigned == meant.release
    shown = {part.assigned for part in found}
    assert shown <= {base.release, fake.release}
    # A first wave of few may have nobody of thirty in it; all waves have everybody.
    assert open_waves or shown == {base.release}
    assert open_waves < len(WAVES) or shown == {fake.release}


def finish(bench, release):
    """Let a release be what the channel runs."""
    rollout = bench.start(release)
    bench.move(rollout, lambda at: replace(at, state="done"))


def _open(connection, rollout, waves):
    table = ledger.rollouts
    row = {"open_waves": waves, "state": "running" if waves else "halted"}
    connection.execute(table.update().where(table.c.id == rollout).values(row))


def test_only_the_newest_wave_is_judged(bench):
    """Evidence is that of the newest wave; failures of every open wave count."""
    fake = bench.publish("digits@1")
    rollout = bench.start("digits@1", *WAVES, min_inferences=1)
    bench.write(lambda c: _open(c, rollout, 2))
    found, _, everyone = seen(bench, rollout)
    by_wave = {index: [p for p in everyone if p.wave == index] for index in range(3)}
    for index, what in ((0, REVERTED), (1, CONFIRMED), (2, REVERTED)):
        bench.says(by_wave[index][0].device, what, fake, answered=10 * (index + 1), failed=1)
    bench.says(by_wave[1][1].device, STAGED, fake)
    bench.clock.step(7)

    found, _, everyone = seen(bench, rollout)
    got = observe(found, everyone, now_ms=bench.plane.now_ms())

    assert (got.devices, got.confirmed, got.failed) == (len(by_wave[1]), 1, 1)
    assert (got.attempted, got.errors) == (21, 1)
    assert (got.open_s, got.settled_s) == (7.0, 7.0)
    assert by_wave[0][0].name in got.complaint


def test_p99_is_compared_on_the_same_devices(bench):
    """A device without a record of the base speaks for neither side."""
    base, fake = bench.publish("digits@1"), bench.publish("digits@2")
    finish(bench, "digits@1")
    rollout = bench.start("digits@2", min_inferences=10)
    first, second, *_ = (part.device for part in seen(bench, rollout)[2])
    bench.says(first, CONFIRMED, base, answered=400, latency={"200": 400})
    bench.says(first, CONFIRMED, fake, answered=400, latency={"210": 400})
    bench.says(second, CONFIRMED, fake, answered=500, latency={"400": 500})

    found, _, everyone = seen(bench, rollout)
    got = observe(found, everyone, now_ms=bench.plane.now_ms())

    # Ten buckets of 2 %: (1.01 / 0.99) ** 10.
    assert (got.compared, got.compare_from) == (400, 300)
    assert got.p99_us / got.base_p99_us == pytest.approx(1.221, abs=0.03)


def test_too_few_answers_are_not_compared(bench):
    """With fewer answers than the gate asks for there is no p99 to judge by."""
    base, fake = bench.publish("digits@1"), bench.publish("digits@2")
    finish(bench, "digits@1")
    rollout = bench.start("digits@2", min_inferences=10)
    device = seen(bench, rollout)[2][0].device
    bench.says(device, CONFIRMED, base, answered=9, latency={"200": 9})
    bench.says(device, CONFIRMED, fake, answered=90, latency={"900": 90})

    found, _, everyone = seen(bench, rollout)
    got = observe(found, everyone, now_ms=bench.plane.now_ms())

    assert (got.p99_us, got.base_p99_us) == (None, None)
    assert (got.compared, got.compare_from) == (9, 300)
    assert unjudged(got) == "p99 not judged: 9 of 300 answers"


@pytest.mark.parametrize(("asked", "needed"), [(10, 300), (500, 500)])
def test_how_many_answers_a_p99_needs(bench, asked, needed):
    """As many as the gate asks for, and never fewer than 300; without a base none help."""
    bench.publish("digits@1")
    bench.publish("digits@2")
    first = bench.start("digits@1", min_inferences=asked)
    alone, _, everyone = seen(bench, first)
    without = observe(alone, everyone, now_ms=bench.plane.now_ms())
    bench.move(first, lambda at: replace(at, state="done"))
    found, _, everyone = seen(bench, bench.start("digits@2", min_inferences=asked))
    over = observe(found, everyone, now_ms=bench.plane.now_ms())

    assert unjudged(without) == "p99 not judged: no base to compare with"
    assert unjudged(over) == f"p99 not judged: 0 of {needed} answers"
