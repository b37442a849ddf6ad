"""How everything does, from what is known: trouble is named, silence is believed only for a reason."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from classifier.delivery import EndpointHealth, EndpointState
from classifier.status import EndpointStatus, Overview, RuleCounts, Status

NOW = dt.datetime(2026, 1, 2, 15, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=8)))
SECOND = dt.timedelta(seconds=1)
DESK = EndpointStatus(id="desk", health=EndpointHealth(delivered_at=NOW - 60 * SECOND))
OVERVIEW = Overview(
    scan_at=NOW - 4 * SECOND,
    newest_file_at=NOW - 600 * SECOND,
    model="m@1",
    files={"scored": 12, "rejected": 1},
    rejections={"binary": 1},
    abstentions={"off_topic": 2},
    untagged=1,
    rules={},
    feedback={},
)
QUIET = Status(
    now=NOW,
    midnight=NOW.replace(hour=0, minute=0, second=0),
    folder="/srv/inbox",
    is_folder_there=True,
    scan_every=5 * SECOND,
    fresh_within=None,
    overview=OVERVIEW,
    rules={"r": RuleCounts(week=3, sent=3)},
    endpoints=(DESK,),
)


def seen(**changes: Any) -> Status:
    """Return a quiet day with another overview."""
    return replace(QUIET, overview=replace(OVERVIEW, **changes))


def desk(**changes: Any) -> Status:
    """Return a quiet day with another endpoint."""
    return replace(QUIET, endpoints=(replace(DESK, **changes),))


def test_a_quiet_day_is_trusted_for_reasons() -> None:
    """Articles came and were tagged, the folder is looked at, endpoints work, nothing waits."""
    assert QUIET.headline() == "a quiet day you can trust"
    assert QUIET.trust() == (
        "12 articles of today, 9 with tags; the newest came 10 min ago; no rule wants them",
        "the folder was looked at 4 s ago",
        "the endpoint works",
        "nothing waits to be sent",
    )
    assert (QUIET.troubles(), QUIET.doubts(), QUIET.files_today) == ((), (), 13)


def test_matches_are_counted() -> None:
    """Then nobody needs to be told why silence can be believed."""
    loud = replace(QUIET, rules={"r": RuleCounts(today=1, week=4), "s": RuleCounts()})

    assert loud.headline() == "all is well; 1 match today"
    assert loud.to_record()["trust"] == []
    assert replace(loud, rules={"r": RuleCounts(today=2)}).headline() == "all is well; 2 matches today"


@pytest.mark.parametrize(
    ("status", "doubt"),
    [
        pytest.param(seen(files={"rejected": 1}), "no new article came", id="nothing-scored"),
        pytest.param(seen(files={}), "no new article came", id="nothing"),
        pytest.param(seen(untagged=10), "none of 12 articles got a tag", id="no-tags"),
        pytest.param(desk(health=EndpointHealth()), "nothing was ever delivered to desk; `classifier", id="untried"),
    ],
)
def test_a_quiet_day_that_tells_little_says_why(status: Status, doubt: str) -> None:
    """It is no trouble, but no good news either."""
    assert status.headline().startswith(f"a quiet day, but {doubt}")
    assert (status.troubles(), status.trust()) == ((), ())


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        pytest.param(replace(QUIET, is_folder_there=False), "the folder /srv/inbox is not there", id="folder"),
        pytest.param(
            seen(scan_at=None, newest_file_at=None),
            "the folder was never looked at; is the daemon running?",
            id="never",
        ),
        pytest.param(
            seen(scan_at=NOW - 56 * SECOND), "the folder was last looked at 56 s ago; is the daemon running?", id="late"
        ),
        pytest.param(
            replace(QUIET, fresh_within=599 * SECOND),
            "no new file for 10 min, longer than fresh_within_s allows",
            id="stale",
        ),
        pytest.param(
            desk(health=EndpointHealth(state=EndpointState.GIVING_UP, reason="HTTP 500")),
            "endpoint desk is giving up: HTTP 500",
            id="endpoint",
        ),
        pytest.param(desk(pending=3, oldest_due_s=901), "a message for desk has been due for 15 min", id="due"),
        pytest.param(desk(dead=1), "1 message for desk is dead; see `classifier outbox list`", id="dead"),
        pytest.param(desk(dead=2), "2 messages for desk are dead; see `classifier outbox list`", id="dead-ones"),
        pytest.param(
            desk(is_named=False, pending=1), "1 message waits for desk, which is not in the settings", id="stray"
        ),
        pytest.param(
            desk(is_named=False, pending=2), "2 messages wait for desk, which is not in the settings", id="strays"
        ),
    ],
)
def test_trouble_is_named(status: Status, trouble: str) -> None:
    """Each by itself; a day with trouble is never trusted."""
    assert status.troubles() == (trouble,)
    assert status.headline() == "something is wrong"
    assert status.trust() == ()
    assert status.to_record()["is_well"] is False


def test_several_troubles_are_counted() -> None:
    """In the headline."""
    assert replace(desk(dead=1), is_folder_there=False).headline() == "2 things are wrong"


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(seen(scan_at=NOW - 55 * SECOND), id="in-time"),
        pytest.param(seen(scan_at=NOW - 9_000 * SECOND, newest_file_at=NOW - SECOND), id="backlog"),
        pytest.param(seen(scan_at=NOW + 60 * SECOND), id="clock-set-back"),
        pytest.param(desk(pending=3, oldest_due_s=899), id="being-sent"),
        pytest.param(replace(QUIET, endpoints=(DESK, replace(DESK, id="old", is_named=False))), id="gone"),
        pytest.param(replace(QUIET, fresh_within=600 * SECOND), id="fresh"),
    ],
)
def test_what_is_usual_is_no_trouble(status: Status) -> None:
    """Up to the limits."""
    assert status.troubles() == ()
    assert status.trust()


def test_reasons_fit_the_number_of_endpoints() -> None:
    """None, one, several; and what waits is said."""
    assert replace(QUIET, endpoints=()).trust()[2] == "there is no endpoint to reach"
    several = replace(QUIET, endpoints=(replace(DESK, pending=1), replace(DESK, id="wire")))
    assert several.trust()[2:] == ("all 2 endpoints work", "messages wait, none for long")


def test_the_record_holds_everything() -> None:
    """In UTC, for programs."""
    record = replace(QUIET, held_back={"silences in force": 2}).to_record()

    assert record["at"] == "2026-01-02T07:04:05Z"
    assert record["today_since"] == "2026-01-01T16:00:00Z"
    assert (record["is_well"], record["is_quiet"], record["held_back"]) == (True, True, {"silences in force": 2})
    assert record["rules"] == [{"rule": "r", "today": 0, "week": 3, "sent": 3, "digests": 0, "held": 0}]
    assert record["endpoints"] == [
        {
            "endpoint": "desk",
            "in_settings": True,
            "state": "working",
            "reason": "",
            "delivered_at": "2026-01-02T07:03:05Z",
            "paused_until": None,
            "pending": 0,
            "oldest_due_s": 0.0,
            "dead": 0,
        }
    ]
