"""Virtual keys from the store: who calls, and what the key is for."""

from dataclasses import dataclass

from proxy import Call, Deny, Principal, Request, Store, hookimpl

_WHOSE = "key"  # the label of a principal that names its key


@dataclass(frozen=True)
class VirtualKeys:
    """``outgate keys`` makes, rotates and revokes them; ``[store]`` says where they are kept."""

    store: Store

    def __post_init__(self) -> None:
        """Without a pepper no key could be known."""
        self.store.table.required_pepper()

    @hookimpl
    def identify(self, request: Request) -> Principal | None:
        """Whose key this is; one that ended, or comes from another network than its own, is nobody's."""
        if not request.credentials.caller:
            return None
        key = self.store.keys.find(request.credentials.caller.reveal())
        if key is None or not key.takes_address(request.client):
            return None
        return key.principal

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        """Refuse an endpoint or a model that the key is not for."""
        key = self.store.keys.by_id(call.principal.metadata.get(_WHOSE, ""))
        if key is None:
            return None  # known to another plugin
        if not key.takes_endpoint(call.endpoint):
            what = f"{call.endpoint}; it is for {', '.join(key.endpoints)}"
            return Deny(_not_for(what), code="endpoint_not_allowed", status=403)
        # The list of models names none.
        if call.endpoint == "models" or key.takes_model(call.model or ""):
            return None
        what = f"the model {(call.model or '')[:128]!r}; it is for {', '.join(key.models)}"
        return Deny(_not_for(what), code="model_not_allowed", param="model", status=403)

    @hookimpl
    def choose_upstream(self, call: Call) -> str | None:
        """The upstream of the key, also after a failure: no other credential is for this key."""
        key = self.store.keys.by_id(call.principal.metadata.get(_WHOSE, ""))
        return key.upstream if key else None


def _not_for(what: str) -> str:
    return f"This key is not for {what}. Use another, or ask the operator of this gateway."
