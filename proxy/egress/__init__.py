"""The guarded way out to the upstreams; nothing else in Outgate opens a connection."""

from proxy.egress.client import Egress
from proxy.egress.reply import UpstreamReply
from proxy.egress.watcher import Cancelled, Handle, Reason, Watcher

__all__ = ["Cancelled", "Egress", "Handle", "Reason", "UpstreamReply", "Watcher"]
