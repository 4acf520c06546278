"""What the operator's configuration became: the parts every call is served with."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from proxy.config import Config
from proxy.model import Provider, Upstream
from proxy.policy import Policy
from proxy.prices import Prices
from proxy.steps import Chain
from proxy.store import Store
from proxy.teams import Teams

if TYPE_CHECKING:
    from proxy.rehearsal.loading import Candidate


class Parts(Struct, frozen=True, kw_only=True):
    """Loaded once, shared by every process and thread; ``digest`` stands for all of it in records."""

    config: Config
    digest: str
    chain: Chain
    providers: Mapping[str, Provider]
    upstreams: Mapping[str, Upstream]
    policy: Policy
    teams: Teams = Teams()
    store: Store | None = None
    prices: Prices = Prices()
    shadow: "Candidate | None" = None
