"""The audit trail: what left is on disk before it leaves, and what is on disk cannot be changed unseen."""

from proxy.audit.faults import AuditFault
from proxy.audit.table import AuditTable, ContentTable, ExportEntry
from proxy.audit.trail import Trail

__all__ = ["AuditFault", "AuditTable", "ContentTable", "ExportEntry", "Trail"]
