"""Finding things in texts, whole or streamed: one compiled engine for all detectors."""

from proxy.detect.decode import Decoded, decoded
from proxy.detect.detector import Detector
from proxy.detect.engine import Engine
from proxy.detect.fold import Folded, fold
from proxy.detect.lane import Span
from proxy.detect.stream import Piece, Stream
from proxy.detect.syntax import bounded

__all__ = [
    "Decoded",
    "Detector",
    "Engine",
    "Folded",
    "Piece",
    "Span",
    "Stream",
    "bounded",
    "decoded",
    "fold",
]
