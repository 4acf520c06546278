"""A guardrail: refuses what is marked as confidential."""

from proxy import Call, Deny, hookimpl


@hookimpl
def guard_request(call: Call) -> Deny | None:
    """Look at every text of the call, wherever it stands."""
    if any("strictly confidential" in text.value.lower() for text in call.texts()):
        return Deny("Confidential documents stay in the company.")
    return None
