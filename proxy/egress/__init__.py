"""The guarded way out to the upstreams; nothing else in Outgate opens a connection."""

from proxy.egress.client import Egress, Sign
from proxy.egress.handle import Cancelled, Handle, Reason
from proxy.egress.held import ReadyReply, hold
from proxy.egress.reply import UpstreamReply
from proxy.egress.watcher import Watcher

__all__ = [
    "Cancelled",
    "Egress",
    "Handle",
    "ReadyReply",
    "Reason",
    "Sign",
    "UpstreamReply",
    "Watcher",
    "hold",
]
