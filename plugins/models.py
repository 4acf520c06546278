"""Which models a caller may use: globs per principal, per group, and for everyone else."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy import Call, ConfigError, Deny, Globs, Principal, Reply, hookimpl, only


@dataclass(frozen=True)
class Models:
    """The caller's own list counts first, then the lists of all its groups together, then ``default``."""

    default: tuple[str, ...] = ()
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    principals: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _compiled: dict[tuple[str, ...], Globs] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Compile every list once."""
        lists = [self.default, *self.groups.values(), *self.principals.values()]
        if not any(lists):
            raise ConfigError(
                'nobody could use any model: set default, groups or principals, e.g. default = ["gpt-*"]'
            )
        self._compiled.update((patterns, Globs(patterns)) for patterns in lists)

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        """Refuse a model that none of the caller's lists holds."""
        if call.endpoint == "models" or self._allows(call.principal, call.model or ""):
            return None
        allowed = ", ".join(
            pattern for patterns in self._lists(call.principal) for pattern in patterns
        )
        return Deny(
            f"The model {(call.model or '')[:128]!r} is not among those you may use: {allowed or 'none'}.",
            code="model_not_allowed",
            param="model",
            status=403,
        )

    @hookimpl
    @only("models")
    def rewrite_response(self, call: Call, reply: Reply) -> Reply | None:
        """Show in the list of models those the caller may use."""
        data = reply.body.get("data") if isinstance(reply.body, dict) else None
        if not isinstance(data, list):
            return None
        kept = [
            item
            for item in data
            if isinstance(item, dict) and self._allows(call.principal, str(item.get("id", "")))
        ]
        return reply.with_body(data=kept) if len(kept) < len(data) else None

    def _allows(self, principal: Principal, model: str) -> bool:
        return any(self._compiled[patterns].match(model) for patterns in self._lists(principal))

    def _lists(self, principal: Principal) -> Iterator[tuple[str, ...]]:
        if principal.name in self.principals:
            yield self.principals[principal.name]
        elif any(group in self.groups for group in principal.groups):
            yield from (self.groups[group] for group in principal.groups if group in self.groups)
        else:
            yield self.default
