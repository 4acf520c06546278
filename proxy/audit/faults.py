"""What the audit trail raises."""

from proxy.errors import OutgateError


class AuditFault(OutgateError):
    """A record is not durably on disk, so what it speaks of must not happen.

    The message says what the system said and where; it holds nothing of the record.
    """
