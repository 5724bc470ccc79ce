"""Parsing of replies that were recorded from RedisGears 1.2.9."""

import pytest

from sponsorsync.domain.errors import GearsError
from sponsorsync.gears.client import explain_unsupported
from sponsorsync.gears.replies import (
    Fault,
    Results,
    parse_counts,
    parse_fault,
    parse_registrations,
    parse_results,
    parse_version,
)

SHARD = b"0000000000000000000000000000000000000000"
LAST_ERROR = (
    b"['Traceback (most recent call last):\\n', '  File \"<string>\", line 4, in push\\n', "
    b'"Exception: it\'s\\nbad\\n"]'
)
PRIVATE_DATA = (
    b"{'sessionName':'sponsorsync-write-behind', 'sessionDescription':'0.1.0 841a', 'refCount': 1, "
    b"'linkedTo': primary, 'dead': false, 'isInstallationNeeded':0, 'registrationsList':['0-9'], "
    b"'depsList':[]}"
)
STREAM_READER = [
    *(b"id", SHARD + b"-9", b"reader", b"StreamReader", b"desc", b"drain", b"RegistrationData"),
    [
        *(b"mode", b"async_local", b"numTriggered", 4, b"numSuccess", 1, b"numFailures", 2),
        *(b"numAborted", 1, b"lastRunDurationMS", 7, b"totalRunDurationMS", 9),
        *(b"avgRunDurationMS", 0.0, b"lastEstimatedLagMS", 0, b"avgEstimatedLagMS", 0.0),
        *(b"lastError", LAST_ERROR, b"args"),
        [
            *(b"batchSize", 100, b"durationMS", 200, b"stream", b"sponsorsync:outbox"),
            *(b"trimStream", 0, b"onFailedPolicy", b"retry", b"retryInterval", 1),
        ],
        *(b"status", b"WAITING_FOR_RETRY_ON_FAILURE"),
    ],
    *(b"PD", PRIVATE_DATA, b"ExecutionThreadPool", b"DefaultPool"),
]
KEYS_READER = [
    *(b"id", SHARD + b"-1", b"reader", b"KeysReader", b"desc", None, b"RegistrationData"),
    [
        *(b"mode", b"sync", b"numTriggered", 0, b"numSuccess", 0, b"numFailures", 0),
        *(b"numAborted", 0, b"lastRunDurationMS", 0, b"totalRunDurationMS", 0),
        *(b"avgRunDurationMS", 0.0, b"lastError", None, b"args"),
        [b"regex", b"user:*", b"eventTypes", [b"sadd"], b"keyTypes", None, b"hookCommands", None],
    ],
    *(b"PD", b"{'dead': false}", b"ExecutionThreadPool", b"DefaultPool"),
]


NOT_PICKLED = "gears.error: Error occured when serialized a python callback, callback=f error="
SCRIPT = "def f():\n    g()\n\nf()\n"


def _traceback(*lines: str) -> str:
    """Returns a traceback in the form of RedisGears' replies."""
    return repr([f"{line}\n" for line in ("Traceback (most recent call last):", *lines)])


@pytest.mark.parametrize(
    ("reply", "text", "line"),
    [
        (
            _traceback(
                '  File "<string>", line 4, in <module>',
                '  File "<string>", line 2, in f',
                'ValueError: no "x" it\'s\nbad',
            ),
            'ValueError: no "x" it\'s bad',
            2,
        ),
        (
            _traceback(
                '  File "<string>", line 2, in f',
                '  File "/usr/lib/python3.7/json/__init__.py", line 348, in loads',
                "json.decoder.JSONDecodeError: Expecting value",
            ),
            "json.decoder.JSONDecodeError: Expecting value",
            2,
        ),
        (
            _traceback(
                '  File "<string>", line 4, in <module>',
                '  File "<string>", line 84, in __init__',
                "gears.error: The given reader does not exists",
            ),
            "gears.error: The given reader does not exists",
            4,
        ),
        (
            _traceback(
                '  File "<string>", line 4, in <module>',
                '  File "<string>", line 183, in register',
                NOT_PICKLED
                + _traceback('  File "<string>", line 954, in dumps', "TypeError: can't pickle"),
            ),
            f"{NOT_PICKLED}TypeError: can't pickle",
            4,
        ),
        (
            "Error type: <class 'SyntaxError'>, Value: invalid syntax (<string>, line 2)",
            "SyntaxError: invalid syntax",
            2,
        ),
        ("Session x already exists", "Session x already exists", None),
        ("['no end", "['no end", None),
        ("[]", "[]", None),
    ],
)
def test_a_fault_has_a_line_and_a_sentence(reply: str, text: str, line: int | None) -> None:
    """The line is the last one in the script itself, not in a library that it called."""
    assert parse_fault(reply, source=SCRIPT) == Fault(text, line)


def test_without_the_source_a_fault_has_the_last_line() -> None:
    """The traceback of a run has no frames of RedisGears, so its last frame is the script's."""
    reply = _traceback('  File "<string>", line 7, in push', "OSError: away")

    assert str(parse_fault(reply)) == "line 7: OSError: away"


def test_a_long_fault_is_cut() -> None:
    """The text is shown in a table and in /readyz."""
    assert len(parse_fault("x" * 10_000).text) == 500


def test_the_version_is_read_from_lists_and_maps() -> None:
    """RESP2 lists the facts of a module, RESP3 maps them; there may be other modules."""
    other = [b"name", b"ReJSON", b"ver", 20_000]
    flat = [[*other], [b"name", b"rg", b"ver", 10_209, b"path", b"/x", b"args", []]]

    assert parse_version(flat) == (1, 2, 9)  # type: ignore[arg-type]
    assert parse_version([{b"name": b"rg", b"ver": 10_002}]) == (1, 0, 2)  # type: ignore[dict-item]
    assert parse_version([{b"name": b"redisgears_2", b"ver": 20_011}]) == (2, 0, 11)  # type: ignore[dict-item]
    assert parse_version([other]) is None  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("version", "word"),
    [
        (None, "has no RedisGears"),
        ((1, 0, 9), "neither key misses nor the hooks"),
        ((1, 2, 0), "cannot put a script in the place"),
        ((1, 2, 1), "cannot put a script in the place"),
        ((2, 0, 11), "another product"),
    ],
)
def test_an_unsupported_version_is_refused_with_its_reason(
    version: tuple[int, int, int] | None, word: str
) -> None:
    """The reasons differ, because what to do about them differs."""
    reason = explain_unsupported(version)

    assert reason is not None
    assert word in reason
    assert "SPONSORSYNC_ENGINE=plain" in reason


@pytest.mark.parametrize("version", [(1, 2, 2), (1, 2, 5), (1, 2, 13)])
def test_later_versions_of_1_2_are_supported(version: tuple[int, int, int]) -> None:
    """All these versions have the options ID and UPGRADE."""
    assert explain_unsupported(version) is None


def test_registrations_have_counters_and_a_readable_last_error() -> None:
    """The `source` of a registration is a stream or a prefix of keys."""
    drain, capture = parse_registrations([STREAM_READER, KEYS_READER])  # type: ignore[list-item]

    assert (drain.session, drain.session_description) == ("sponsorsync-write-behind", "0.1.0 841a")
    assert drain.source == "sponsorsync:outbox"
    assert (drain.triggered, drain.successes, drain.failures, drain.aborted) == (4, 1, 2, 1)
    assert (drain.last_duration_ms, drain.status) == (7, "WAITING_FOR_RETRY_ON_FAILURE")
    assert drain.last_error == "line 4: Exception: it's bad"
    assert (capture.session, capture.source, capture.description) == ("", "user:*", "")
    assert (capture.status, capture.last_error) == (None, None)


def test_a_reply_without_results_is_refused() -> None:
    """RedisGears replies OK if a script registered something, even if it also ran."""
    with pytest.raises(GearsError, match="no results"):
        parse_results(b"OK")


def test_the_counts_of_a_batch_script_are_its_one_record() -> None:
    """The record is a JSON object."""
    record = '{"done": 2, "skipped": {"visitor": 1}, "failed": 1, "errors": ["person 1: no hash"]}'

    assert parse_counts(Results((record,), ())) == {
        "done": 2,
        "skipped": {"visitor": 1},
        "failed": 1,
        "errors": ["person 1: no hash"],
    }


@pytest.mark.parametrize(
    "records",
    [("{}",), ("[]",), ("no JSON",), ("1", "2"), ('{"done": 1, "skipped": 1, "failed": 0}',)],
)
def test_other_records_are_refused_as_counts(records: tuple[str, ...]) -> None:
    """Unreadable counts must not be taken for a success."""
    with pytest.raises(GearsError, match="did not return its counts"):
        parse_counts(Results(records, ()))


def test_a_batch_script_without_a_record_counts_nothing() -> None:
    """Without a matching key, RedisGears returns no record."""
    assert parse_counts(Results((), ())) == {"done": 0, "skipped": {}, "failed": 0, "errors": []}


def test_a_batch_script_that_failed_has_no_counts() -> None:
    """The error is raised even if there is a record."""
    with pytest.raises(GearsError, match="line 3: boom"):
        parse_counts(Results(("{}",), (Fault("boom", 3),)))
