"""Policies as plain JSON values, and back: in the log, in the database and on every wire the same.

What is not set is left out, so the empty policy is `{}`. Money is a string of decimal digits.
"""

from __future__ import annotations

from typing import Any

from actors.core.policy import Applied, Band, Policy, shared

Json = dict[str, Any]


def policy_to_json(policy: Policy) -> Json:
    encoded: Json = {}
    if policy.bands:
        encoded["bands"] = [
            {"from_base": str(band.from_base), "confirmations": band.confirmations}
            for band in policy.bands
        ]
    if policy.rbf_confirmations is not None:
        encoded["rbf_confirmations"] = policy.rbf_confirmations
    if policy.tolerance_base:
        encoded["tolerance_base"] = str(policy.tolerance_base)
    if policy.tolerance_bps:
        encoded["tolerance_bps"] = policy.tolerance_bps
    if policy.accept_late_s:
        encoded["accept_late_s"] = policy.accept_late_s
    return encoded


def policy_from_json(data: Json) -> Policy:
    """What `policy_to_json` wrote. Raises TypeError, ValueError or KeyError for anything else."""
    values = dict(data)
    values["bands"] = tuple(
        Band(int(band["from_base"]), band["confirmations"]) for band in values.get("bands", ())
    )
    values["tolerance_base"] = int(values.get("tolerance_base", 0))
    return shared(Policy(**values))


def applied_to_json(applied: tuple[Applied, ...]) -> list[Json]:
    return [
        {
            "name": one.name,
            **{key: str(n) if key.endswith("_base") else n for key, n in one.numbers},
        }
        for one in applied
    ]


def applied_from_json(data: list[Json]) -> tuple[Applied, ...]:
    """Raises TypeError, ValueError or KeyError for what `applied_to_json` did not write."""
    return tuple(
        Applied(
            one["name"],
            tuple(
                (key, int(n) if key.endswith("_base") else n)
                for key, n in one.items()
                if key != "name"
            ),
        )
        for one in data
    )
