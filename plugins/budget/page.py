"""``GET /v1/usage``: what the caller's own key used, and what is left in its budgets."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, current_app, request

from plugins.budget.rules import TOKENS, Rule, Who
from proxy import ConfigError, Store, Unavailable, shown_money

_OWN = ("key", "owner", "team")
_BY = "model"
_PAGE = "outgate_usage"


def install(app: Flask, store: Store, rules: tuple[Rule, ...]) -> None:
    """Add the page to the application; raises ``ConfigError`` when it is there already."""
    if _PAGE in app.view_functions:
        raise ConfigError(
            "this plugin is listed twice: put all budgets into the options of one entry"
        )

    def usage() -> Response:
        caller = current_app.extensions["outgate"].caller(request.environ)
        who = Who.of(caller.name, caller.groups, caller.metadata)
        now = datetime.now(UTC)
        try:
            since = store.usage.moment(request.args.get("since", "30d"), now)
            by = tuple(filter(None, request.args.get("by", _BY).split(",")))
            rows = store.usage.report(by, since=since, where={"key": who.key})
            budgets = list(_budgets(store, rules, who, now))
        except ConfigError as error:
            return _error(400, str(error), "invalid_request_error", None)
        except Unavailable as error:
            answer = _error(503, error.message, "server_error", "state_unavailable")
            answer.headers["retry-after"] = str(error.retry_after)
            return answer
        begins = datetime.fromtimestamp(since, UTC).isoformat()
        shown = [_row(row) for row in rows]
        body = {"object": "usage", "key": who.key, "since": begins}
        return _json(200, {**body, "data": shown, "budgets": budgets})

    app.add_url_rule("/v1/usage", _PAGE, usage, methods=["GET"])


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """Money as a decimal text: a number would be rounded by whoever reads it."""
    return {**row, "cost": shown_money(row["cost"])}


def _budgets(
    store: Store, rules: tuple[Rule, ...], who: Who, now: datetime
) -> Iterator[dict[str, Any]]:
    for rule in rules:
        if rule.per not in _OWN:
            continue
        period = rule.period(now)
        for subject in rule.subjects(who, ""):
            balance = store.ledger.balance(rule.name, subject, period.name, rule.unit)
            left = max(0, rule.cap - balance.settled - balance.reserved)
            amounts = {
                "limit": rule.cap,
                "spent": balance.settled,
                "reserved": balance.reserved,
                "left": left,
            }
            yield {
                "name": rule.name,
                "per": rule.per,
                "subject": subject,
                "unit": rule.unit,
                **{name: _amount(rule, amount) for name, amount in amounts.items()},
                "resets": period.ends.isoformat() if period.ends else None,
            }


def _amount(rule: Rule, amount: int) -> int | str:
    return amount if rule.unit == TOKENS else shown_money(amount)


def _error(status: int, message: str, kind: str, code: str | None) -> Response:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return _json(status, {"error": error})


def _json(status: int, body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), status, mimetype="application/json")
