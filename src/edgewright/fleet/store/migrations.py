"""The schema's history: numbered steps, each applied once, in order, at start.

A step that has shipped is never edited; a change is a new step. Step N brings a
database from version N - 1 to N in one transaction.
"""

import time

from sqlalchemy import Connection, Engine, insert, inspect, select

from edgewright.core.errors import StorageError
from edgewright.fleet.store.tables import schema_version

_FIRST = """
CREATE TABLE schema_version (version BIGINT NOT NULL PRIMARY KEY, at_ms BIGINT NOT NULL);
CREATE TABLE tokens (
  id TEXT NOT NULL PRIMARY KEY, scope TEXT NOT NULL, sha256 TEXT NOT NULL,
  created_ms BIGINT NOT NULL, revoked_ms BIGINT);
CREATE UNIQUE INDEX tokens_by_sha256 ON tokens (sha256);
CREATE TABLE audit (
  seq BIGINT NOT NULL PRIMARY KEY, at_ms BIGINT NOT NULL, actor TEXT NOT NULL,
  action TEXT NOT NULL, object TEXT NOT NULL, detail_json TEXT NOT NULL,
  sha256 TEXT NOT NULL);
CREATE TABLE devices (
  id TEXT NOT NULL PRIMARY KEY, public_key TEXT NOT NULL, name TEXT NOT NULL,
  channel TEXT NOT NULL, labels_json TEXT NOT NULL, profile_json TEXT NOT NULL,
  enrolled_ms BIGINT NOT NULL, seen_ms BIGINT, sequence BIGINT NOT NULL,
  boot_id TEXT NOT NULL, agent_version TEXT NOT NULL, serving_digest TEXT NOT NULL,
  serving_release TEXT NOT NULL, serving_variant TEXT NOT NULL, serving_since_ms BIGINT,
  slots_json TEXT NOT NULL, conditions_json TEXT NOT NULL, trust_json TEXT NOT NULL);
CREATE INDEX devices_by_channel ON devices (channel);
CREATE TABLE queues (
  device TEXT NOT NULL, queue_id TEXT NOT NULL, high BIGINT NOT NULL,
  applied BIGINT NOT NULL, lost BIGINT NOT NULL, updated_ms BIGINT NOT NULL,
  PRIMARY KEY (device, queue_id));
CREATE TABLE losses (
  device TEXT NOT NULL, queue_id TEXT NOT NULL, low BIGINT NOT NULL,
  high BIGINT NOT NULL, at_ms BIGINT NOT NULL, PRIMARY KEY (device, queue_id, low));
CREATE TABLE tallies (
  device TEXT NOT NULL, digest TEXT NOT NULL, release TEXT NOT NULL,
  answered BIGINT NOT NULL, failed BIGINT NOT NULL, late BIGINT NOT NULL,
  refused BIGINT NOT NULL, latency_json TEXT NOT NULL, resident_bytes BIGINT NOT NULL,
  since_ms BIGINT NOT NULL, until_ms BIGINT NOT NULL, PRIMARY KEY (device, digest));
CREATE INDEX tallies_by_digest ON tallies (digest);
CREATE TABLE feedback (
  device TEXT NOT NULL, transition BIGINT NOT NULL, at TEXT NOT NULL, what TEXT NOT NULL,
  digest TEXT NOT NULL, release TEXT NOT NULL, rollout TEXT NOT NULL,
  serving TEXT NOT NULL, reason TEXT NOT NULL, received_ms BIGINT NOT NULL,
  PRIMARY KEY (device, transition, at, what, digest));
CREATE TABLE outcomes (
  device TEXT NOT NULL, digest TEXT NOT NULL, what TEXT NOT NULL, rollout TEXT NOT NULL,
  reason TEXT NOT NULL, transition BIGINT NOT NULL, at_ms BIGINT NOT NULL,
  PRIMARY KEY (device, digest));
CREATE INDEX outcomes_by_digest ON outcomes (digest);
CREATE TABLE problems (
  device TEXT NOT NULL, code TEXT NOT NULL, count BIGINT NOT NULL, message TEXT NOT NULL,
  hint TEXT NOT NULL, at_ms BIGINT NOT NULL, PRIMARY KEY (device, code));
CREATE TABLE releases (
  release TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, version BIGINT NOT NULL,
  digest TEXT NOT NULL, length BIGINT NOT NULL, path TEXT NOT NULL,
  published_by TEXT NOT NULL, published_ms BIGINT NOT NULL);
CREATE TABLE trust_files (
  repository TEXT NOT NULL, filename TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (repository, filename));
CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL);
CREATE TABLE rollouts (
  id TEXT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL, channel TEXT NOT NULL,
  salt TEXT NOT NULL, next_json TEXT NOT NULL, base_json TEXT, waves_json TEXT NOT NULL,
  gate_json TEXT NOT NULL, state TEXT NOT NULL, open_waves BIGINT NOT NULL,
  reason TEXT NOT NULL, created_by TEXT NOT NULL, created_ms BIGINT NOT NULL,
  opened_ms BIGINT NOT NULL, paused_ms BIGINT, finished_ms BIGINT);
CREATE INDEX rollouts_by_channel ON rollouts (channel, seq);
CREATE TABLE decisions (
  rollout TEXT NOT NULL, seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, wave BIGINT NOT NULL,
  decision TEXT NOT NULL, reason TEXT NOT NULL, observation_json TEXT NOT NULL,
  PRIMARY KEY (rollout, seq));
CREATE TABLE marks (
  rollout TEXT NOT NULL, device TEXT NOT NULL, answered BIGINT NOT NULL,
  failed BIGINT NOT NULL, late BIGINT NOT NULL, latency_json TEXT NOT NULL,
  PRIMARY KEY (rollout, device));
CREATE TABLE answers (
  actor TEXT NOT NULL, route TEXT NOT NULL, key TEXT NOT NULL,
  request_sha256 TEXT NOT NULL, status BIGINT NOT NULL, body TEXT NOT NULL,
  at_ms BIGINT NOT NULL, PRIMARY KEY (actor, route, key));
"""

STEPS: tuple[str, ...] = (_FIRST,)


def migrate(engine: Engine, *, steps: tuple[str, ...] = STEPS) -> list[int]:
    """Bring the database to the newest version; return the steps applied.

    Raises:
        StorageError: The database is of a newer version than this program knows.
    """
    applied = []
    with engine.connect() as connection:
        with connection.begin():
            have = _version(connection)
        if have > len(steps):
            raise StorageError(
                f"the database has schema version {have}, this program knows {len(steps)}",
                hint="Update edgewright on this machine, or restore an older copy.",
            )
        for number, step in enumerate(steps[have:], start=have + 1):
            with connection.begin():
                for statement in filter(None, map(str.strip, step.split(";"))):
                    connection.exec_driver_sql(statement)
                connection.execute(
                    insert(schema_version).values(
                        version=number, at_ms=time.time_ns() // 10**6
                    )
                )
            applied.append(number)
    return applied


def _version(connection: Connection) -> int:
    if not inspect(connection).has_table(schema_version.name):
        return 0
    newest = select(schema_version.c.version).order_by(schema_version.c.version.desc())
    return connection.scalar(newest.limit(1)) or 0
