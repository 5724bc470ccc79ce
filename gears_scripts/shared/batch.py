"""Copies to durable the people who have a key of some kind, and counts successes and failures.

Failures are counted because RedisGears ends the whole run at an exception, and skips all later
records.
"""

import json
import re

# @include shared/relay.py
# @lua import_unversioned

PEOPLE_AT_ONCE = 500
MOST_ERRORS = 10


class Counts:
    """Counts of a run; `ids` are the people found since the last copy."""

    def __init__(self):
        self.done, self.failed, self.skipped, self.errors = 0, 0, {}, []
        self.ids = []

    def skip(self, reason, count=1):
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def fail(self, reason):
        self.failed += 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(reason)

    def to_json(self):
        names = ("done", "skipped", "failed", "errors")
        return json.dumps({name: getattr(self, name) for name in names})


def copy_all(parts, template, only_entitled=False, **fields):
    """Scans all keys of one kind, and copies some parts of the people whose ids are in the keys.

    The run replies one record, JSON {"done": int, "skipped": {reason: int}, "failed": int,
    "errors": […]}; or no record, if there is no such key.

    Args:
        parts: The parts to copy: 'profile', 'entitlement', or names of collections.
        template: The name of these keys, with `{id}` for the person and possibly other fields.
        only_entitled: Leaves out people who are not entitled.
        fields: Regular expressions for the template's other fields, by their names.
    """
    names = load_names()
    ours = re.compile("^" + template.format(id="(?P<id>[1-9][0-9]*)", **fields) + "$")

    def gather(counts, record):
        counts = counts or Counts()
        found = match_key(ours, record["key"])
        if not found:
            counts.skip("not ours")
            return counts
        counts.ids.append(found.group("id"))
        if len(counts.ids) >= PEOPLE_AT_ONCE:
            copy(counts)
        return counts

    def copy(counts):
        ids, counts.ids = sorted(set(counts.ids)), []
        for part in parts:
            try:
                copy_people(counts, ids, part, names, only_entitled)
            except Exception as error:
                for person in ids:
                    counts.fail("person {}: {}".format(person, error))

    def finish(counts):
        if counts.ids:
            copy(counts)
        return counts.to_json()

    GearsBuilder("KeysReader").accumulate(gather).map(finish).run(
        re.sub(r"{\w+}", "*", template), readValue=False, convertToStr=False
    )


def import_unversioned(ids, names):
    """Pushes to durable the data that local has had since before the service, without versions.

    Returns {person: error} for the people who have a wrong-type key.
    """
    unreadable = {}
    for piece in in_pieces(ids):
        imported, _, wrongs = run_local("import_unversioned", "mark", json.dumps(names), *piece)
        for wrong in map(text_of, wrongs):
            # The error names the key; the last number in it that is one of the ids is the person's.
            found = [each for each in re.findall(r":([0-9]+)(?=[: ])", wrong) if each in piece]
            unreadable[found[-1]] = wrong
        if imported:
            drain([text_of(each) for each in imported], names)
    return unreadable


def find_entitled(ids, names):
    """Returns those of these people who are in an index of entitled people.

    People whose entitlement was never evaluated are not in it. They are dirty, so the drain pushes
    them.
    """
    entitled = set()
    for sponsorable in names["sponsorables"]:
        bits = execute("SMISMEMBER", SPONSORS.format(sponsorable=sponsorable), *ids)
        entitled.update(person for person, bit in zip(ids, bits) if int(bit))
    return sorted(entitled)


def copy_people(counts, ids, part, names, only_entitled):
    """Copies one part of people to durable, and counts the results.

    If a person's data must be fetched from durable first, all parts of that person are pushed.
    """
    require_compared("local", run_id_here())
    unreadable = import_unversioned(ids, names)
    ids = [each for each in ids if each not in unreadable]
    if only_entitled and ids:
        entitled = find_entitled(ids, names)
        counts.skip("not entitled", len(ids) - len(entitled))
        ids = entitled
    rows, refused = pack_here(ids, "only:" + part, names)
    refused.update(unreadable)
    wanted = []
    for row in rows:
        if only_entitled and "v" in row.flags:
            counts.skip("visitor")
        elif only_entitled and "c" not in row.flags:
            counts.skip("not entitled")
        elif "u" in row.flags:
            counts.skip("unknown")
            drain([row.person], names)
        else:
            wanted.append(row)
    delivery = deliver(wanted, names)
    counts.done += len(delivery["taken"])
    counts.skip("newer", len(delivery["newer"]))
    refused.update(delivery["refused"])
    for person, reason in sorted(refused.items()):
        counts.fail("person {}: {}".format(person, reason))
