"""Images and text to features; weights are found on this machine, never downloaded."""

from probmetrics.encoders.base import (
    AbstractEncoder,
    FunctionEncoder,
    Identity,
    SentenceEncoder,
)
from probmetrics.encoders.efficientnet import EfficientNetLite
from probmetrics.encoders.extract import Features, extract
from probmetrics.encoders.inception import InceptionEncoder, find_inception

__all__ = [
    "AbstractEncoder",
    "EfficientNetLite",
    "Features",
    "FunctionEncoder",
    "Identity",
    "InceptionEncoder",
    "SentenceEncoder",
    "extract",
    "find_inception",
]
