"""Groups and users: each user gets exactly the groups of his line."""

from __future__ import annotations

from dataclasses import replace

from broker.domain import names
from broker.domain.model import Group, Role, User
from broker.domain.roster import UserRow
from broker.services.roster.draft import Draft, same_or


def plan_groups(draft: Draft) -> None:
    for row in draft.roster.groups:
        old = draft.groups.stored.get(row.name)
        if old is not None:
            title = old.title if row.title is None else row.title
            draft.groups.put(row.name, replace(old, title=title))
            continue
        draft.groups.put(
            row.name,
            Group(
                id=draft.new_id("grp"),
                name=row.name,
                title=row.title or row.name,
                created_at=draft.now,
            ),
        )


def _group_ids(draft: Draft, row: UserRow) -> tuple[str, ...]:
    found = (
        draft.refer(draft.groups, "groups.csv", name, "users.csv", row.line, "groups")
        for name in row.groups or ()
    )
    return tuple(group.id for group in found if group is not None)


def plan_users(draft: Draft) -> None:
    for row in draft.roster.users:
        if row.username in draft.reserved:
            text = f"{names.shown(row.username)} is the broker's own account"
            draft.bad("users.csv", row.line, "username", text)
            continue
        old = draft.users.stored.get(row.username)
        group_ids = _group_ids(draft, row)
        if old is None:
            user = User(
                id=draft.new_id("usr"),
                username=row.username,
                display_name=row.display_name or row.username,
                role=row.role or Role.USER,
                enabled=True,
                group_ids=group_ids,
                created_at=draft.now,
            )
        else:
            user = _changed_user(draft, row, old, group_ids)
        draft.users.put(row.username, user)


def _changed_user(draft: Draft, row: UserRow, old: User, group_ids: tuple[str, ...]) -> User:
    role = row.role or old.role
    if old.role is Role.ADMINISTRATOR and role is not old.role:
        # Otherwise one line of a file could lock everybody out of the installation.
        text = "is an administrator; a roster does not take that away, change the role by hand"
        draft.bad("users.csv", row.line, "role", f"{names.shown(row.username)} {text}")
    return replace(
        old,
        display_name=row.display_name or old.display_name,
        role=role,
        group_ids=old.group_ids if row.groups is None else same_or(old.group_ids, group_ids),
    )
