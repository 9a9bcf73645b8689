"""What the rules of a policy say to a request, to its head and to the models that it names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NoReturn

from llamakey_addon.authorize import models
from llamakey_addon.authorize.models import Named
from llamakey_addon.catalogue.models import Endpoint, ModelNames
from llamakey_addon.errors import BadRequest, Forbidden
from llamakey_addon.globs import glob
from llamakey_addon.journey import Policy, Provider, Route, Rule, User, Visit
from llamakey_addon.readings import readings, unescaped

_LOOKING = ("GET", "HEAD")


def policies(user: User) -> tuple[Policy, ...]:
    """What must allow a request, each by itself."""
    return (user.policy,) if user.scope is None else (user.policy, user.scope)


def any_rules(user: User) -> bool:
    """Whether anything is forbidden to somebody by a rule."""
    return any(policy.allow is not None or policy.deny for policy in policies(user))


def about_models(visit: Visit) -> bool:
    """Whether it hangs on the models of a request if it is allowed."""
    for policy in policies(visit.user):
        if any(rule.models and _fits(visit, rule, every=False) for rule in policy.deny):
            return True
        if policy.allow is not None and not any(
            not rule.models and _fits(visit, rule, every=True) for rule in policy.allow
        ):
            return True
    return False


# --- head -----------------------------------------------------------------------------------------


def check_head(visit: Visit, policy: Policy) -> None:
    """Pass when one rule may allow it; else say which part of the whitelist stands against it."""
    for rule in policy.deny:
        if not rule.models and _fits(visit, rule, every=False):
            _deny(visit, rule, "may not do this at")
    if policy.allow is None:
        return
    route, user = visit.route, visit.user
    name, method = route.provider.entry.name, visit.ask.method
    rules = tuple(r for r in policy.allow if not r.providers or route.provider.id in r.providers)
    if not rules:
        _refuse(user, policy, f"may not use {name}")
    rules = tuple(r for r in rules if not r.methods or method.upper() in r.methods)
    if not rules:
        _refuse(user, policy, f"may not send {method} to {name}")
    if not any(not rule.paths or _paths_fit(rule, route, every=True) for rule in rules):
        _refuse(user, policy, f"may not use this path of {name}")


def check_minting(visit: Visit) -> None:
    """Keep credentials of the account, which an answer would hand out, from all but the named; and
    whatever is beyond the endpoints of an entry that is closed."""
    entry = visit.route.provider.entry
    if entry.closed and visit.route.endpoint is None:
        _check_named(
            visit,
            f"Of {entry.name} nothing is served here but what the inference SDKs need.",
        )
    if not entry.mints:
        return
    method = "GET" if visit.ask.method == "HEAD" else visit.ask.method
    paths = [reading.lower().rstrip("/") for reading in readings(visit.route.path)]
    for pattern in entry.mints:
        verb, _, path = pattern.partition(" ")
        wanted = glob(path.lower().rstrip("/"))
        if verb == method and any(wanted.fullmatch(reading) for reading in paths):
            break
    else:
        return
    _check_named(
        visit,
        f"This request hands out a credential of the {entry.name} account, with which its holder "
        "needs this proxy no more.",
    )


def _check_named(visit: Visit, why: str) -> None:
    """Raise Forbidden, and say why, where no rule names the path."""
    for policy in policies(visit.user):
        for rule in policy.allow or ():
            named = replace(rule, paths=tuple(p for p in rule.paths if "**" not in p and p != "*"))
            if named.paths and _fits(visit, named, every=True):
                break
        else:
            if policy is visit.user.scope and policy.allow is None:
                continue  # a scope without a whitelist takes nothing away
            setting = policy.allow_setting
            raise Forbidden(
                f"{why} The proxy's owner can allow it by a rule in {setting} that names its path.",
                setting=setting,
            )


# --- models ---------------------------------------------------------------------------------------


def check_models(visit: Visit, policy: Policy, named: Named, *, inner: int) -> None:
    """The same with the models that the request names.

    Arguments:
        inner: how many requests stand in its body; they are judged each by itself.
    """
    ways = visit.route.provider.entry.model_names
    for rule in policy.deny:
        if rule.models and _fits(visit, rule, every=False):
            _check_denied(visit, rule, named, ways)
    if policy.allow is None:
        return
    fitting = [rule for rule in policy.allow if _fits(visit, rule, every=True)]
    if any(not rule.models for rule in fitting):
        return
    if not fitting:
        _refuse(visit.user, policy, "may not do this")
    if named.unknown:
        _unknown(visit, named, policy.allow_setting, "allows models by name")
    endpoint = visit.route.endpoint
    if not named.names and not inner and (endpoint is None or not endpoint.lists):
        _unknown(
            visit,
            replace(named, unknown="it names none"),
            policy.allow_setting,
            "allows models by name",
        )
    for name in named.names:
        _check_plain(name)
        if not any(_allows(rule, name, ways) for rule in fitting):
            where = f"at {visit.route.provider.entry.name} in this way"
            _refuse(visit.user, policy, f"may not use the model {name} {where}")


def may_use(policy: Policy, provider: Provider, name: str) -> bool:
    """Whether there is a way to use a model, for lists of them."""
    ways = provider.entry.model_names
    for rule in policy.deny:
        if (
            not rule.paths
            and not rule.methods
            and (not rule.providers or provider.id in rule.providers)
            and (not rule.models or _denies(rule, name, ways))
        ):
            return False
    return policy.allow is None or any(
        (not rule.providers or provider.id in rule.providers)
        and (not rule.models or _allows(rule, name, ways))
        and _reaches(rule, provider, name)
        for rule in policy.allow
    )


def _reaches(rule: Rule, provider: Provider, name: str) -> bool:
    """Whether a rule fits an endpoint at which models are used, and not only told of."""
    if not rule.paths and not rule.methods:
        return True
    for endpoint in provider.entry.endpoints:
        if endpoint.model == "none" or endpoint.describes or endpoint.lists:
            continue
        if rule.methods and not set(rule.methods).intersection(endpoint.methods):
            continue
        if not rule.paths:
            return True
        path = re.sub(
            r"\{([a-z_]+)(?:\.\.\.)?\}",
            lambda part, field=endpoint.model_field: name if part[1] == field else "x",  # type: ignore[misc]
            endpoint.path,
        )
        if _paths_fit(rule, Route(provider, endpoint, path, "", {}), every=True):
            return True
    return False


def _check_denied(visit: Visit, rule: Rule, named: Named, ways: ModelNames) -> None:
    for name in named.names:
        _check_plain(name)
        if _denies(rule, name, ways):
            _deny(visit, rule, f"may not use the model {name} at")
        if models.is_opaque(name, ways):
            _unknown(
                visit,
                replace(named, unknown=f"{name} does not say which it is"),
                rule.setting,
                "denies some",
            )
    if named.unknown:
        _unknown(visit, named, rule.setting, "denies some")


def _denies(rule: Rule, name: str, ways: ModelNames) -> bool:
    """Without case, in each way that the name may be read: a denial is not got around."""
    texts = models.readings(name, ways)
    return any(
        glob(pattern.casefold(), "names").fullmatch(text)
        for pattern in rule.models
        for text in texts
    )


def _allows(rule: Rule, name: str, ways: ModelNames) -> bool:
    """With case, as providers compare; a name with escapes must be allowed as they are undone."""
    texts = readings(name) if "%" in name else (name,)
    return bool(texts) and all(
        any(
            glob(pattern, "names").fullmatch(spelling)
            for pattern in rule.models
            for spelling in models.spellings(text, ways)
        )
        for text in texts
    )


def _check_plain(name: str) -> None:
    if name != name.strip() or not name.isprintable():
        raise BadRequest(
            "The model's name has spaces around it or characters that can't be seen. Write it "
            "plainly."
        )


def _unknown(visit: Visit, named: Named, setting: str, does: str) -> NoReturn:
    where = f" ({named.setting})" if named.setting else ""
    raise Forbidden(
        f"{visit.user.name} may not use {visit.route.provider.entry.name} with a model that is not "
        f"known, and {named.unknown}{where}: {setting} {does}.",
        setting=named.setting or setting,
    )


# --- what a rule is about -------------------------------------------------------------------------


def _fits(visit: Visit, rule: Rule, *, every: bool) -> bool:
    """Whether a rule is about the head of a request; see `_paths_fit` for `every`."""
    route = visit.route
    return (
        (not rule.providers or route.provider.id in rule.providers)
        and (not rule.methods or visit.ask.method.upper() in rule.methods)
        and (not rule.paths or _paths_fit(rule, route, every=every))
    )


def _paths_fit(rule: Rule, route: Route, *, every: bool) -> bool:
    """Whether one of a rule's paths is the route's.

    Arguments:
        every: in every reading of the path, as is safe where the rule allows; else in any, as is
            safe where it denies.
    """
    found = readings(route.path)
    enough = all if every else any
    for pattern in rule.paths:
        if pattern in ("*", "**"):
            return True
        if not found:
            if not every:
                return True
            continue
        if pattern.startswith("/"):
            fitting = glob(unescaped(pattern, slashes=False))
            if enough(fitting.fullmatch(reading) for reading in found):
                return True
        elif route.endpoint and glob(pattern, "names").fullmatch(route.endpoint.name):
            return True
    return False


def looks_at_a_model(endpoint: Endpoint | None, method: str) -> bool:
    """Whether a request asks what a model is, and does not use it."""
    return endpoint is not None and endpoint.describes and method in _LOOKING


def _refuse(user: User, policy: Policy, what: str) -> NoReturn:
    raise Forbidden(
        f"{user.name} {what}. The proxy's owner can allow it in {policy.allow_setting}.",
        setting=policy.allow_setting,
    )


def _deny(visit: Visit, rule: Rule, what: str) -> NoReturn:
    raise Forbidden(
        f"{visit.user.name} {what} {visit.route.provider.entry.name}: {rule.setting} denies it.",
        setting=rule.setting,
    )
