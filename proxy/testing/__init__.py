"""For authors of plugins: one plugin behind the real intake, chain, policy and relay, without a network.

A whole test::

    def test_confidential_text_stays():
        assert harness(Confidential).completions(prompt="strictly confidential").denied
"""

from proxy.testing.contract import Report
from proxy.testing.harness import Harness, harness
from proxy.testing.results import PluginFailed, Result

__all__ = ["Harness", "PluginFailed", "Report", "Result", "harness"]
