"""The names that the operator listed, and the upstreams behind them: nobody is sent to by any other name."""

from collections.abc import Mapping

from msgspec import Struct, structs

from plugins.portkey.conditions import Facts
from plugins.portkey.keys import Refused, refused_host
from plugins.portkey.plan import Leaf, Node, leaves
from proxy import Balance, Fallback, Target, Way

#: Of several names the most particular decides.
_KINDS = ("custom-host", "virtual-key", "provider")


class Names(Struct, frozen=True):
    """``tables`` is kind → name → upstream."""

    tables: Mapping[str, Mapping[str, str]]

    def check(self, named: Mapping[str, str], place: str = "") -> None:
        """Raise ``Refused`` unless every name is listed, also one that decides nothing.

        ``place`` is that in a config, or nothing for names in headers.
        """
        for kind, name in named.items():
            if name in self.tables[kind]:
                continue
            if place and kind == "custom-host":
                raise refused_host(place)
            raise _unlisted(kind, self.tables[kind], place)

    def upstream(self, named: Mapping[str, str]) -> str | None:
        """Whom the names mean."""
        found = (self.tables[kind][named[kind]] for kind in _KINDS if kind in named)
        return next(found, None)

    def provider(self, upstream: str, said: str | None = None) -> str:
        """The listed name of a provider for an upstream, the one that was ``said`` if it is one."""
        names = [name for name, known in self.tables["provider"].items() if known == upstream]
        return said if said in names else next(iter(names), "outgate")

    def told(self, upstream: str, path: str, said: str | None = None) -> dict[str, str]:
        """What an answer of ``upstream`` says of where it comes from."""
        return {
            "x-portkey-provider": self.provider(upstream, said),
            "x-portkey-last-used-option-index": path,
        }

    def check_all(self, node: Node, sent: Mapping[str, str]) -> None:
        """Raise ``Refused`` unless every target of a config can be sent to."""
        for leaf in leaves(node):
            self._meant(leaf, sent)

    def way(self, node: Node, sent: Mapping[str, str], facts: Facts) -> Way:
        """Where a config sends a call; ``sent`` are the names in the headers. Raises ``Refused``."""
        if isinstance(node, Leaf):
            return self._target(node, sent)
        if node.mode == "conditional":
            return self.way(node.chosen(facts), sent, facts)
        ways = tuple(self.way(member, sent, facts) for member in node.members)
        if node.mode == "loadbalance":
            return Balance(tuple(zip(node.weights, ways, strict=True)), falls_back=False)
        return Fallback(ways, on=node.on, unanswered=node.unanswered)

    def _target(self, leaf: Leaf, sent: Mapping[str, str]) -> Target:
        upstream, named, model = self._meant(leaf, sent)
        body = {**leaf.target.body, "model": model} if model else leaf.target.body
        told = self.told(upstream, leaf.path, named.get("provider"))
        return structs.replace(leaf.target, upstream=upstream, body=body, reply_headers=told)

    def _meant(self, leaf: Leaf, sent: Mapping[str, str]) -> tuple[str, Mapping[str, str], str]:
        """The upstream of a target, the names that led there, and the model without that of its provider."""
        named = leaf.named
        slug, model = ("", "") if named else self.split(leaf.target.body.get("model"))
        if slug:
            named = {"provider": slug}
        self.check(named, leaf.path)
        upstream = self.upstream(named or sent)
        if upstream is None:
            raise Refused(
                f"{leaf.path} names nobody to send to: add provider or virtual_key, or send one in a header."
            )
        return upstream, named or sent, model

    def split(self, model: object) -> tuple[str, str]:
        """Portkey's ``@provider/model`` in two, where that provider is listed; else two times nothing."""
        slug, slash, rest = model.partition("/") if isinstance(model, str) else ("", "", "")
        known = slash and slug.startswith("@") and slug in self.tables["provider"]
        return (slug, rest) if known and rest else ("", "")


def unlisted_config(configs: Mapping[str, object]) -> Refused:
    """The refusal of an id that nobody listed."""
    return _unlisted("config", configs)


def _unlisted(kind: str, table: Mapping[str, object], place: str = "") -> Refused:
    """Names of providers are no secret; the others may be, so they are not listed to a stranger to them."""
    known = f" Listed: {', '.join(sorted(table)) or 'none'}." if kind == "provider" else ""
    header = f"x-portkey-{kind}"
    where, what = header, "the header"
    if place:
        where = what = f"{place}.{kind.replace('-', '_')}"
    return Refused(
        f"The name in {where} is not one the operator of this gateway listed: leave {what} out, or ask for it"
        f" to be added.{known}",
        code="unknown_route",
        param=header,
    )
