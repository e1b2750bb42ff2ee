"""The tables, as SQLAlchemy Core describes them to queries.

``migrations`` makes them; a test compares the two. Only text and 64-bit
integers, so that one set of statements suits every database. ``_ms`` is
milliseconds of Unix time by the server's clock, ``_json`` a JSON document.
"""

from sqlalchemy import BigInteger, Column, MetaData, Table, Text

METADATA = MetaData()


def _text(name: str, *, key: bool = False, null: bool = False) -> "Column[str]":
    return Column(name, Text, primary_key=key, nullable=null)


def _number(name: str, *, key: bool = False, null: bool = False) -> "Column[int]":
    return Column(name, BigInteger, primary_key=key, nullable=null, autoincrement=False)


schema_version = Table(
    "schema_version", METADATA, _number("version", key=True), _number("at_ms")
)

tokens = Table(
    "tokens",
    METADATA,
    _text("id", key=True),
    _text("scope"),
    _text("sha256"),
    _number("created_ms"),
    _number("revoked_ms", null=True),
)

audit = Table(
    "audit",
    METADATA,
    _number("seq", key=True),
    _number("at_ms"),
    _text("actor"),
    _text("action"),
    _text("object"),
    _text("detail_json"),
    _text("sha256"),
)

devices = Table(
    "devices",
    METADATA,
    _text("id", key=True),
    _text("public_key"),
    _text("name"),
    _text("channel"),
    _text("labels_json"),
    _text("profile_json"),
    _number("enrolled_ms"),
    _number("seen_ms", null=True),
    _number("sequence"),
    _text("boot_id"),
    _text("agent_version"),
    _text("serving_digest"),
    _text("serving_release"),
    _text("serving_variant"),
    _number("serving_since_ms", null=True),
    _text("slots_json"),
    _text("conditions_json"),
    _text("trust_json"),
)

queues = Table(
    "queues",
    METADATA,
    _text("device", key=True),
    _text("queue_id", key=True),
    _number("high"),
    _number("applied"),
    _number("lost"),
    _number("updated_ms"),
)

losses = Table(
    "losses",
    METADATA,
    _text("device", key=True),
    _text("queue_id", key=True),
    _number("low", key=True),
    _number("high"),
    _number("at_ms"),
)

tallies = Table(
    "tallies",
    METADATA,
    _text("device", key=True),
    _text("digest", key=True),
    _text("release"),
    _number("answered"),
    _number("failed"),
    _number("late"),
    _number("refused"),
    _text("latency_json"),
    _number("resident_bytes"),
    _number("since_ms"),
    _number("until_ms"),
)

feedback = Table(
    "feedback",
    METADATA,
    _text("device", key=True),
    _number("transition", key=True),
    # A device that lost its journal counts from 1 again; what it tells then is new.
    _text("at", key=True),
    _text("what", key=True),
    _text("digest", key=True),
    _text("release"),
    _text("rollout"),
    _text("serving"),
    _text("reason"),
    _number("received_ms"),
)

outcomes = Table(
    "outcomes",
    METADATA,
    _text("device", key=True),
    _text("digest", key=True),
    _text("what"),
    _text("rollout"),
    _text("reason"),
    _number("transition"),
    _number("at_ms"),
)

problems = Table(
    "problems",
    METADATA,
    _text("device", key=True),
    _text("code", key=True),
    _number("count"),
    _text("message"),
    _text("hint"),
    _number("at_ms"),
)

releases = Table(
    "releases",
    METADATA,
    _text("release", key=True),
    _text("name"),
    _number("version"),
    _text("digest"),
    _number("length"),
    _text("path"),
    _text("published_by"),
    _number("published_ms"),
)

trust_files = Table(
    "trust_files",
    METADATA,
    _text("repository", key=True),
    _text("filename", key=True),
    _text("body"),
)

counters = Table("counters", METADATA, _text("name", key=True), _number("value"))

rollouts = Table(
    "rollouts",
    METADATA,
    _text("id", key=True),
    # Order of creation; the clock may have jumped in between.
    _number("seq"),
    _text("channel"),
    _text("salt"),
    _text("next_json"),
    _text("base_json", null=True),
    _text("waves_json"),
    _text("gate_json"),
    _text("state"),
    _number("open_waves"),
    _text("reason"),
    _text("created_by"),
    _number("created_ms"),
    _number("opened_ms"),
    _number("paused_ms", null=True),
    _number("finished_ms", null=True),
)

decisions = Table(
    "decisions",
    METADATA,
    _text("rollout", key=True),
    _number("seq", key=True),
    _number("at_ms"),
    _number("wave"),
    _text("decision"),
    _text("reason"),
    _text("observation_json"),
)

marks = Table(
    "marks",
    METADATA,
    _text("rollout", key=True),
    _text("device", key=True),
    _number("answered"),
    _number("failed"),
    _number("late"),
    _text("latency_json"),
)

answers = Table(
    "answers",
    METADATA,
    _text("actor", key=True),
    _text("route", key=True),
    _text("key", key=True),
    _text("request_sha256"),
    _number("status"),
    _text("body"),
    _number("at_ms"),
)
