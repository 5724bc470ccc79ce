"""What has to be true of one person, as far as the driver can know.

Nearly everything is known for certain. What is not (an answer that was lost, changes that had not
reached durable when local was flushed) is kept as the set of all possible values, until a later
change of the same thing decides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Key = tuple[str, str]
"""A collection and an item."""


@dataclass(frozen=True, slots=True)
class EntitlementValue:
    """What is known of an entitlement: `entitlements` is None while nothing was ever told."""

    entitlements: bool | None = None
    until: float | None = None

    def is_entitled(self, now: float) -> bool:
        """As the scripts judge it: whole seconds, the end is exclusive."""
        return bool(self.entitlements) and (self.until is None or int(self.until) > int(now))


NEVER_TOLD = EntitlementValue()


@dataclass(frozen=True, slots=True)
class OverrideValue:
    """What an administrator decided; each decision has another number of cents."""

    cents: int
    until: float | None

    def is_entitled(self, now: float) -> bool:
        """Likewise."""
        return self.until is None or int(self.until) > int(now)


@dataclass
class Held:
    """What one side holds of a person."""

    items: set[Key] = field(default_factory=set)
    profile: Mapping[str, str] = field(default_factory=dict)
    entitlement: Mapping[str, str] = field(default_factory=dict)

    @property
    def entitlement_value(self) -> EntitlementValue:
        """The entitlement's facts, reduced to what the model knows."""
        if not self.entitlement:
            return NEVER_TOLD
        until = self.entitlement.get("valid_until")
        return EntitlementValue(
            self.entitlement["source"] != "none", None if until is None else float(until)
        )

    @property
    def override(self) -> OverrideValue | None:
        """What an administrator decided."""
        for grant in json.loads(self.entitlement.get("also", "[]")):
            until = grant.get("until")
            return OverrideValue(grant["cents"], None if until is None else float(until))
        return None

    def is_entitled(self, now: float) -> bool:
        """Whether anything entitles them."""
        return self.entitlement_value.is_entitled(now) or bool(
            self.override and self.override.is_entitled(now)
        )


@dataclass
class Truth:
    """All possible values of each thing of one person.

    Attributes:
        items: For each item whether it is there.
        entitlements: The entitlement by a sponsorship.
        overrides: What an administrator decided; None where that is nothing.
        names: The name in the profile, which each login gives anew; None where there is no profile.
        touched: Values that an item had since durable was last seen to have everything. A package
            of that time may still be on its way when local is flushed.
        fresh: Collections whose newest version fences every package of before the last flush.
        era: Items that may have been there while the person may have been entitled: nothing else
            may ever be on durable.
        kept: Items that durable was seen to hold, and that nobody may have removed since.
    """

    universe: tuple[Key, ...]
    items: dict[Key, set[bool]] = field(default_factory=dict)
    entitlements: set[EntitlementValue] = field(default_factory=lambda: {NEVER_TOLD})
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

    # ------------------------------------------------------------------ what the driver did

    def change(
        self, changes: Mapping[Key, bool], *, is_sure: bool, is_news: bool, now: float
    ) -> None:
        """Items were added or removed.

        Args:
            changes: Whether the item is there now.
            is_sure: The service said so; otherwise it may have happened.
            is_news: Something was different before, so that there is a new version.
            now: When the operation began.
        """
        for key, is_there in changes.items():
            self.touched[key] |= self.items[key] | {is_there}
            self.items[key] = {is_there} if is_sure else self.items[key] | {is_there}
            if not is_there:
                self.kept.discard(key)
            if is_sure and is_news:
                self.fresh.add(key[0])
        self._extend_era(now)

    def login(
        self, name: str, entitlement: EntitlementValue | None, *, is_sure: bool, now: float
    ) -> None:
        """Somebody signed in; `entitlement` is None where GitHub did not say."""
        self.touched_names |= self.names | {name}
        self.names = {name} if is_sure else self.names | {name}
        if entitlement is not None:
            self.touched_entitlements |= self.entitlements | {entitlement}
            self.entitlements = {entitlement} if is_sure else self.entitlements | {entitlement}
            self.is_account_fresh = self.is_account_fresh or is_sure
        self._extend_era(now)

    def decide(self, override: OverrideValue | None, *, is_sure: bool, now: float) -> None:
        """An administrator let somebody in, or took that back."""
        self.touched_overrides |= self.overrides | {override}
        self.overrides = {override} if is_sure else self.overrides | {override}
        # Only on what is known for certain; so it is later than all that is on its way.
        self.is_override_fresh = self.is_override_fresh or is_sure
        self._extend_era(now)

    def delete(self, *, is_sure: bool) -> None:
        """The account was deleted."""
        for key in self.universe:
            self.touched[key] |= self.items[key] | {False}
            self.items[key] = {False} if is_sure else self.items[key] | {False}
        self.touched_entitlements |= self.entitlements | {NEVER_TOLD}
        self.entitlements = {NEVER_TOLD} if is_sure else self.entitlements | {NEVER_TOLD}
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

    # ------------------------------------------------------------------ what the driver saw

    @property
    def is_fenced(self) -> bool:
        """Whether no package of before a flush can change anything any more."""
        return (
            self.is_account_fresh
            and self.is_override_fresh
            and self.fresh == {c for c, _ in self.universe}
        )

    def see_clean(self, now: float) -> None:
        """The person was seen not to be dirty: durable has all versions up to this one."""
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
        """Local lost everything; what durable holds is what is left. Returns what is wrong.

        Args:
            is_clean: Whether the person was not dirty in that moment.
            seen: What durable held before and after.
            now: The moment.
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
            # Until there are new versions, a package that is on its way may still arrive.
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
        """Local lost one set of somebody who was clean; durable's copy is what is left."""
        for key in self._keys(collection):
            self.items[key] = {key in durable.items}

    # ------------------------------------------------------------------ questions

    def is_surely_entitled(self, now: float) -> bool:
        """Whether every possibility entitles them, and will for a second."""
        return all(each.is_entitled(now + 1) for each in self.entitlements) or all(
            each is not None and each.is_entitled(now + 1) for each in self.overrides
        )

    def wrong_in_read(self, collection: str, items: Iterable[str]) -> list[str]:
        """Returns the items that a read should not have, or should have, shown."""
        shown = set(items)
        return [
            f"{key}: read {key[1] in shown}, may be {sorted(self.items[key])}"
            for key in self._keys(collection)
            if (key[1] in shown) not in self.items[key]
        ]

    def wrong_at_end(self, local: Held, durable: Held, now: float) -> list[str]:
        """Returns what is wrong when all faults have ended and both sides have come to rest."""
        wrong = [
            f"{key}: {key in local.items}, may be {sorted(values)}"
            for key, values in self.items.items()
            if (key in local.items) not in values
        ]
        wrong += self._wrong_facts_at_end(local, durable, now)
        if local.is_entitled(now):
            if local.items != durable.items:
                wrong.append(f"sides differ in {sorted(local.items ^ durable.items)}")
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
