"""Which target of a tree a call is sent to next: retries, fallbacks and weights, without a network."""

from proxy.routing.walk import next_choice
from proxy.routing.ways import Balance, Fallback, Retry, Target, Way

__all__ = ["Balance", "Fallback", "Retry", "Target", "Way", "next_choice"]
