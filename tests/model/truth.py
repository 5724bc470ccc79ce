"""The expected data of one person, derived from the operations and faults.

Each value is kept as the set of possible values. There are several after a lost answer, or after a
flush of local before durable had a change, until a later change of the same value.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Key = tuple[str, str]
"""The names of a collection and of an item."""


@dataclass(frozen=True, slots=True)
class EntitlementValue:
    """An entitlement by a sponsorship; `entitlements` is None until GitHub has answered."""

    entitlements: bool | None = None
    until: float | None = None

    def is_entitled(self, now: float) -> bool:
        """Returns whether it entitles now; by whole seconds and without the end, as scripts do."""
        return bool(self.entitlements) and (self.until is None or int(self.until) > int(now))


NOTHING_KNOWN = EntitlementValue()


@dataclass(frozen=True, slots=True)
class OverrideValue:
    """An administrator's override; its number of cents identifies it."""

    cents: int
    until: float | None

    def is_entitled(self, now: float) -> bool:
        """Returns whether it entitles now, by the rule of `EntitlementValue`."""
        return self.until is None or int(self.until) > int(now)


@dataclass
class Held:
    """The stored data of a person on one server."""

    items: set[Key] = field(default_factory=set)
    profile: Mapping[str, str] = field(default_factory=dict)
    entitlement: Mapping[str, str] = field(default_factory=dict)

    @property
    def entitlement_value(self) -> EntitlementValue:
        """The facts of the entitlement that the model compares."""
        if not self.entitlement:
            return NOTHING_KNOWN
        until = self.entitlement.get("valid_until")
        return EntitlementValue(
            self.entitlement["source"] != "none", None if until is None else float(until)
        )

    @property
    def override(self) -> OverrideValue | None:
        """The stored override of an administrator, if any."""
        for grant in json.loads(self.entitlement.get("also", "[]")):
            until = grant.get("until")
            return OverrideValue(grant["cents"], None if until is None else float(until))
        return None

    def is_entitled(self, now: float) -> bool:
        """Returns whether the sponsorship or the override entitles the person now."""
        return self.entitlement_value.is_entitled(now) or bool(
            self.override and self.override.is_entitled(now)
        )


@dataclass
class Truth:
    """All possible values of a person's data.

    Attributes:
        items: For each item, whether it is in its collection.
        entitlements: The entitlement by a sponsorship.
        overrides: An administrator's override, or None.
        names: The name in the profile, which differs for each login; None without a profile.
        touched: All values of an item since durable last had everything. When local is flushed, a
            record with one of these values may still be on its way.
        fresh: The collections whose version is newer than every record from before the last flush.
        era: The items that may have existed while the person may have been entitled; durable must
            not have others.
        kept: The items that durable has had, and that cannot have been removed since.
    """

    universe: tuple[Key, ...]
    items: dict[Key, set[bool]] = field(default_factory=dict)
    entitlements: set[EntitlementValue] = field(default_factory=lambda: {NOTHING_KNOWN})
    overrides: set[OverrideValue | None] = field(default_factory=lambda: {None})
    names: set[str | None] = field(default_factory=lambda: {None})
    touched: dict[Key, set[bool]] = field(default_factory=dict)
    touched_entitlements: set[EntitlementValue] = field(default_factory=set)
    touched_overrides: set[OverrideValue | None] = field(default_factory=set)
    touched_names: set[str | None] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)
    is_account_fresh: bool = True
    is_override_fresh: bool = True
    era: set[Key] = field(default_factory=set)
    old_era: set[Key] = field(default_factory=set)
    kept: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.items = {key: {False} for key in self.universe}
        self.touched = {key: set() for key in self.universe}
        self.fresh = {collection for collection, _ in self.universe}

    # --- effects of operations

    def change(
        self, changes: Mapping[Key, bool], *, is_sure: bool, creates_version: bool, now: float
    ) -> None:
        """Applies a change that began at `now`: items were added (True) or removed (False).

        Without `is_sure` the change may not have happened; with `creates_version` it changed
        something, so the collection has a new version.
        """
        for key, is_there in changes.items():
            self.touched[key] |= self.items[key] | {is_there}
            self.items[key] = {is_there} if is_sure else self.items[key] | {is_there}
            if not is_there:
                self.kept.discard(key)
            if is_sure and creates_version:
                self.fresh.add(key[0])
        self._extend_era(now)

    def login(
        self, name: str, entitlement: EntitlementValue | None, *, is_sure: bool, now: float
    ) -> None:
        """Applies a login; `entitlement` is None if GitHub did not answer."""
        self.touched_names |= self.names | {name}
        self.names = {name} if is_sure else self.names | {name}
        if entitlement is not None:
            self.touched_entitlements |= self.entitlements | {entitlement}
            self.entitlements = {entitlement} if is_sure else self.entitlements | {entitlement}
            self.is_account_fresh = self.is_account_fresh or is_sure
        self._extend_era(now)

    def decide(self, override: OverrideValue | None, *, is_sure: bool, now: float) -> None:
        """Applies a new override, or with None its removal."""
        self.touched_overrides |= self.overrides | {override}
        self.overrides = {override} if is_sure else self.overrides | {override}
        # The service adds an override only to complete data, so it is newer than records under way.
        self.is_override_fresh = self.is_override_fresh or is_sure
        self._extend_era(now)

    def delete(self, *, is_sure: bool) -> None:
        """Applies the deletion of the account."""
        for key in self.universe:
            self.touched[key] |= self.items[key] | {False}
            self.items[key] = {False} if is_sure else self.items[key] | {False}
        self.touched_entitlements |= self.entitlements | {NOTHING_KNOWN}
        self.entitlements = {NOTHING_KNOWN} if is_sure else self.entitlements | {NOTHING_KNOWN}
        self.touched_overrides |= self.overrides | {None}
        self.overrides = {None} if is_sure else self.overrides | {None}
        self.touched_names |= self.names | {None}
        self.names = {None} if is_sure else self.names | {None}
        self.kept.clear()
        if is_sure:
            self.is_override_fresh = True
            self.fresh |= {collection for collection, _ in self.universe}
            self.is_account_fresh = True
            self.old_era |= self.era
            self.era = set()

    # --- observations

    @property
    def is_fenced(self) -> bool:
        """Whether no record from before a flush can change durable any more."""
        return (
            self.is_account_fresh
            and self.is_override_fresh
            and self.fresh == {c for c, _ in self.universe}
        )

    def record_clean(self, now: float) -> None:
        """Applies the observation that the person is not dirty: durable has all versions."""
        for collection in self.fresh:
            for key in self._keys(collection):
                self.touched[key] = set()
        if self.is_account_fresh:
            self.touched_entitlements, self.touched_names = set(), set()
        if self.is_override_fresh:
            self.touched_overrides = set()
        if self.is_fenced:
            self.old_era = set()
            if self.is_surely_entitled(now):
                self.kept = {key for key, values in self.items.items() if values == {True}}

    def lose_local(self, *, is_clean: bool, seen: Iterable[Held], now: float) -> list[str]:
        """Applies a flush of local, after which only durable has data; returns violations.

        `is_clean` says that the person was not dirty at the flush. `seen` are the data on durable
        before and after the flush.
        """
        wrong: list[str] = []
        held = list(seen)
        for key in self.universe:
            left = {key in each.items for each in held}
            if is_clean and key[0] in self.fresh:
                if self.is_surely_entitled(now) and not left & self.items[key]:
                    wrong.append(f"durable has confirmed {key}, and holds it: {left}")
                self.items[key] = left
            else:
                self.touched[key] |= self.items[key] | left
                self.items[key] = set(self.touched[key])
        left_entitlements = {each.entitlement_value for each in held}
        left_names = {each.profile.get("name") for each in held}
        if is_clean and self.is_account_fresh:
            self.entitlements, self.names = left_entitlements, left_names
        else:
            self.touched_entitlements |= self.entitlements | left_entitlements
            self.entitlements = set(self.touched_entitlements)
            self.touched_names |= self.names | left_names
            self.names = set(self.touched_names)
        left_overrides = {each.override for each in held}
        if is_clean and self.is_override_fresh:
            if not left_overrides & self.overrides:
                wrong.append(f"durable has confirmed {self.overrides}, holds {left_overrides}")
            self.overrides = left_overrides
        else:
            self.touched_overrides |= self.overrides | left_overrides
            self.overrides = set(self.touched_overrides)
        if not is_clean:
            # Until there are new versions, records under way may still change durable.
            self.fresh = set()
            self.is_account_fresh = self.is_override_fresh = False
            self.era |= self.old_era
        self._extend_era(now)
        wrong += [
            f"on durable without entitlement: {each.items - self.era - self.old_era}"
            for each in held
            if not each.items <= self.era | self.old_era
        ]
        return wrong

    def lose_collection(self, collection: str, durable: Held) -> None:
        """Applies the loss of a collection on local: durable's copy remains. Nothing is dirty."""
        for key in self._keys(collection):
            self.items[key] = {key in durable.items}

    # --- checks

    def is_surely_entitled(self, now: float) -> bool:
        """Returns whether the person is entitled for another second by all possible values."""
        return all(each.is_entitled(now + 1) for each in self.entitlements) or all(
            each is not None and each.is_entitled(now + 1) for each in self.overrides
        )

    def wrong_in_read(self, collection: str, items: Iterable[str]) -> list[str]:
        """Returns the violations in the items that a read returned."""
        shown = set(items)
        return [
            f"{key}: read {key[1] in shown}, may be {sorted(self.items[key])}"
            for key in self._keys(collection)
            if (key[1] in shown) not in self.items[key]
        ]

    def wrong_at_end(self, local: Held, durable: Held, now: float) -> list[str]:
        """Returns the violations after all faults, when all changes have been sent."""
        wrong = [
            f"{key}: {key in local.items}, may be {sorted(values)}"
            for key, values in self.items.items()
            if (key in local.items) not in values
        ]
        wrong += self._wrong_facts_at_end(local, durable, now)
        if local.is_entitled(now):
            if local.items != durable.items:
                wrong.append(f"local and durable differ in {sorted(local.items ^ durable.items)}")
        else:
            if not durable.items <= local.items:
                wrong.append(f"copy not pruned: {sorted(durable.items - local.items)}")
            if not durable.items <= self.era:
                wrong.append(f"durable without entitlement: {sorted(durable.items - self.era)}")
            if not self.kept <= durable.items:
                wrong.append(f"copy lost before its time: {sorted(self.kept - durable.items)}")
        return wrong

    def _wrong_facts_at_end(self, local: Held, durable: Held, now: float) -> list[str]:
        wrong: list[str] = []
        if dict(local.profile) != dict(durable.profile):
            wrong.append(f"profiles differ: {local.profile} and {durable.profile}")
        if dict(local.entitlement) != dict(durable.entitlement):
            wrong.append(f"entitles differ: {local.entitlement} and {durable.entitlement}")
        if local.profile.get("name") not in self.names:
            wrong.append(f"profile is {local.profile.get('name')}, may be {self.names}")
        found = local.entitlement_value
        if found.is_entitled(now) not in {each.is_entitled(now) for each in self.entitlements}:
            wrong.append(f"entitlement is {found}, may be {self.entitlements}")
        if local.override not in self.overrides:
            wrong.append(f"override is {local.override}, may be {self.overrides}")
        if "partial" in local.entitlement:
            wrong.append(f"still partial: {local.entitlement}")
        return wrong

    def _keys(self, collection: str) -> list[Key]:
        return [key for key in self.universe if key[0] == collection]

    def _extend_era(self, now: float) -> None:
        if any(each and each.is_entitled(now) for each in (*self.entitlements, *self.overrides)):
            self.era |= {key for key, values in self.items.items() if True in values}
