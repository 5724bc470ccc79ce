"""Copies the people of all keys of a kind, with counts instead of exceptions.

An exception would end the whole run at its record, and skip all records after it.
"""

import json
import re

# @include shared/relay.py
# @lua import_unversioned

PEOPLE_AT_ONCE = 500
MOST_ERRORS = 10


class Counts:
    """Counts of a run; `ids` are the people of the next copy."""

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
    """Scans all keys of one kind and copies some parts of the people they belong to.

    Replies one record: JSON {"done": int, "skipped": {reason: int}, "failed": int, "errors": […]};
    none at all if there is no such key.

    Args:
        parts: Names: 'profile', collections, or 'entitlement' for the entitlement alone.
        template: The names of these keys, with the person's `{id}` and other fields.
        only_entitled: Leaves out people who are not entitled.
        fields: Regular expressions of the other fields.
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
    """Versions and pushes data that were written before there was a service.

    Returns the people with a wrong-type key, and the error.
    """
    unreadable = {}
    for piece in in_pieces(ids):
        imported, _, wrongs = run_local("import_unversioned", "mark", json.dumps(names), *piece)
        for wrong in map(text_of, wrongs):
            # The error names the key; its last number that is one of the ids is the person.
            found = [each for each in re.findall(r":([0-9]+)(?=[: ])", wrong) if each in piece]
            unreadable[found[-1]] = wrong
        if imported:
            drain([text_of(each) for each in imported], names)
    return unreadable


def find_entitled(ids, names):
    """Returns the people who are in an index of sponsors.

    People whose entitlement was never evaluated are dirty, and are pushed by the drain.
    """
    entitled = set()
    for sponsorable in names["sponsorables"]:
        bits = execute("SMISMEMBER", SPONSORS.format(sponsorable=sponsorable), *ids)
        entitled.update(person for person, bit in zip(ids, bits) if int(bit))
    return sorted(entitled)


def copy_people(counts, ids, part, names, only_entitled):
    """Copies one part of people; drains all parts of people whose part must be fetched first."""
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
