"""A refusal by policy, told as Portkey tells of guardrails that failed."""

from collections import Counter
from typing import Any, Final

from proxy import Denial, Reply

#: Portkey's API reference, "Error codes".
_FAILED: Final = 446


def told(denial: Denial, reply: Reply) -> Reply:
    """``reply`` in that dialect: kinds and counts, never what was found."""
    guardrails = _guardrails(denial)
    return reply.replace(
        status=_FAILED,
        body={
            "error": {**reply.body["error"], "type": "hooks_failed"},
            "hook_results": {
                "before_request_hooks": [] if denial.answered else guardrails,
                "after_request_hooks": guardrails if denial.answered else [],
            },
        },
    )


def _guardrails(denial: Denial) -> list[dict[str, Any]]:
    """One guardrail for each plugin that found something to deny, one check for each kind."""
    counts: dict[str, Counter[str]] = {denial.by: Counter()}
    for finding in denial.findings:
        if finding.action == "deny":
            counts.setdefault(finding.plugin, Counter())[finding.kind] += 1
    return [
        {
            "id": plugin,
            "type": "guardrail",
            "verdict": False,
            "deny": True,
            "async": False,
            "transformed": False,
            "checks": [
                {"id": kind, "verdict": False, "data": {"findings": count}, "error": None}
                for kind, count in sorted(kinds.items())
            ],
            "feedback": None,
        }
        for plugin, kinds in counts.items()
    ]
