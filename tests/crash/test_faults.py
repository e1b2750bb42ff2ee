"""One scripted run of the whole fleet under fire; see ``campaign`` for what is killed."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest
from examples.digits.local import Device, Server, wait_for
from tests.crash.campaign import ROLES, Campaign, account, settle, traffic_for
from tests.sim.bundles import make_bundle

from edgewright.bundle.manifest import Policy
from edgewright.cli.main import main

KILLS = {"sampled": 20, "full": 100}
RELEASES = {"sampled": 3, "full": 12}
POLICY = Policy(min_inferences=20, max_slowdown_bp=2_000_000, deadline_s=60)
ENDED = ("done", "halted")


@pytest.mark.slow
def test_nothing_is_lost_when_anything_is_killed(tmp_path, scale):
    """Kill every kind of process at random while rollouts run.

    Each device has a complete verified model at every moment, converges by itself and
    reports what it really runs; every event is counted once; each rollout ends as it
    should, the last one, a bad release, with a halt.
    """
    began = time.monotonic()
    server, devices = _fleet(tmp_path, releases=RELEASES[scale])
    campaign = Campaign(server, devices, seed=20_26)
    asking = traffic_for(devices, seed=1)
    try:
        _first_release(server, devices)
        for one in asking:
            one.start()
        last = _under_fire(campaign, server, kills=KILLS[scale], releases=RELEASES[scale])
        settle(server, devices, f"digits@{last}", seconds=90)
        # Beyond all that are published: fewer are used where each rollout takes longer.
        state = _bad_release(campaign, server, tmp_path, RELEASES[scale] + 2)
        settle(server, devices, f"digits@{last}", seconds=90)
        campaign.check()
        for one in asking:
            one.stop()
            campaign.result.answered += one.counts["right"] + one.counts["wrong"]
            campaign.result.failed.update(reason.split(":")[0] for reason in one.failures)
        _every_event_once(campaign, server, devices)
    finally:
        for device in devices:
            device.stop()
        server.stop()
    campaign.result.seconds = time.monotonic() - began

    assert state == "halted"
    assert set(campaign.result.rollouts) == {"done"}
    assert set(campaign.result.kills) == set(ROLES)
    assert campaign.result.kills.total() >= KILLS[scale]
    assert campaign.result.answered > 0
    _keep(campaign, scale)


def _fleet(folder: Path, *, releases: int) -> tuple[Server, list[Device]]:
    """Start a server with every release published, and three devices."""
    keys = folder / "keys"
    assert main(["keys", "init", str(keys), "--root-keys", "1", "--root-threshold", "1"]) == 0
    server = Server(folder / "server", keys)
    server.start()
    for version in range(1, releases + 2):
        bundle = folder / f"digits-{version}.ewb"
        make_bundle(bundle, version=version, seed=version, policy=POLICY)
        _publish(server, bundle, keys)
    names = ("canary", "second", "third")
    devices = [
        Device(folder / "devices" / n, n, server, keys, labels={"canary": str(n == names[0])})
        for n in names
    ]
    for device in devices:
        device.start()
    for device in devices:
        wait_for(lambda d=device: d.id and d.status().get("port"), "a device to enrol")
    return server, devices


def _publish(server: Server, bundle: Path, keys: Path) -> None:
    words = ["publish", str(bundle), "--keys", str(keys), "--server", server.url]
    assert main([*words, "--token-file", str(server.token_file("operate"))]) == 0


def _first_release(server: Server, devices: list[Device]) -> None:
    """Version 1 everywhere: from here on every device has something to keep."""
    asking = traffic_for(devices, seed=2)
    rollout = _start(server, 1)
    # A trial needs answers to judge, and the second wave a trial that ended well.
    for one in asking:
        one.start()
    wait_for(
        lambda: _state(server, rollout) == "done", "version 1 to be confirmed", seconds=60
    )
    for one in asking:
        one.stop()


def _under_fire(campaign: Campaign, server: Server, *, kills: int, releases: int) -> int:
    """Kill until enough were killed; start the next rollout whenever one has ended."""
    version, rollout = 1, ""
    while True:
        if (state := _state(server, rollout)) in ENDED:
            campaign.result.rollouts.append(state)
        if not rollout or state in ENDED:
            if campaign.result.kills.total() >= kills or version > releases:
                return version
            version += 1
            rollout = _start(server, version)
        if campaign.result.kills.total() < kills:
            campaign.kill(_next_role(campaign, kills))
            campaign.check()
        time.sleep(0.2)


def _next_role(campaign: Campaign, kills: int) -> str:
    """The role furthest behind its share; installers show up rarely, so they go first."""
    killed = campaign.result.kills
    order = ("installer", "server", "supervisor", "worker", "courier")
    share = {role: max(1, kills // (8 if role == "installer" else 5)) for role in order}
    return min(order, key=lambda role: killed[role] / share[role])


def _bad_release(campaign: Campaign, server: Server, folder: Path, version: int) -> str:
    """A release whose golden answers fail is refused by the canary, killed or not."""
    bundle = folder / "bad.ewb"
    make_bundle(bundle, version=version, invert=True, override="for the test", policy=POLICY)
    _publish(server, bundle, folder / "keys")
    rollout = _start(server, version)
    campaign.kill("courier")
    wait_for(lambda: _state(server, rollout) in ENDED, "the bad release to end", seconds=90)
    return _state(server, rollout)


def _start(server: Server, version: int) -> str:
    client = server.client()
    try:
        asked = {
            "channel": "stable",
            "release": f"digits@{version}",
            "waves": [{"labels": {"canary": "True"}, "bp": 10_000}, {"bp": 10_000}],
            "gate": {
                "min_inferences": 20,
                "max_slowdown_bp": 2_000_000,
                "max_error_bp": 5_000,
            },
        }
        return str(client.call("POST", "/v1/rollouts", asked)["rollout"])
    finally:
        client.close()


def _state(server: Server, rollout: str) -> str:
    if not rollout:
        return ""
    client = server.client()
    try:
        return str(client.call("GET", f"/v1/rollouts/{rollout}")["state"])
    finally:
        client.close()


def _every_event_once(campaign: Campaign, server: Server, devices: list[Device]) -> None:
    """What a device has handed over is what the server has applied, event by event."""
    for device in devices:
        device.stop(signal.SIGTERM)
        told = account(server, device)
        spool = device.status()["spool"]
        delivered = sum(queue["applied"] for queue in told["queues"])
        assert all(q["applied"] + q["lost"] == q["high"] for q in told["queues"])
        # A batch may be durable on the server while its acknowledgement was cut.
        assert spool["delivered"] <= delivered <= spool["delivered"] + spool["queued"]
        transitions = [one["transition"] for one in told["feedback"]]
        assert transitions == list(range(1, len(transitions) + 1))
        campaign.result.events += delivered


def _keep(campaign: Campaign, scale: str) -> None:
    """Print the result; a full campaign's is kept beside the benchmarks."""
    result = campaign.result
    document = {
        "kills": dict(result.kills),
        "checks": result.checks,
        "rollouts": len(result.rollouts),
        "events": result.events,
        "answered": result.answered,
        "refused_requests": dict(result.failed),
        "seconds": round(result.seconds),
    }
    sys.stdout.write(json.dumps(document) + "\n")
    if scale == "full":
        target = Path("benchmarks/results/faults.json")
        target.write_text(json.dumps(document, indent=1) + "\n")
