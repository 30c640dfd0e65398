"""A comparison in JSON's types; docs/json.md documents the keys."""

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from probmetrics.report.measures import Measurement

if TYPE_CHECKING:
    from probmetrics.report.comparison import Comparison
    from probmetrics.report.copying import Copying

SCHEMA = "probmetrics.comparison/1"  # the number grows when a key changes its meaning or goes


def as_json(comparison: "Comparison") -> str:
    """The comparison as a JSON document."""
    return json.dumps(as_dict(comparison), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_dict(comparison: "Comparison") -> dict[str, Any]:
    """The comparison in dicts, lists, numbers, strings, booleans and None."""
    pair = comparison.pair
    answer = {
        "schema": SCHEMA,
        "verdict": asdict(comparison.verdict),
        "samples": [
            _sample(side, values) for side, values in zip(pair.sides, (pair.x, pair.y), strict=True)
        ],
        "columns": list(pair.columns),
        "scaled": pair.scaled,
        "metrics": {m.metric.name: _measurement(m) for m in comparison.measurements},
        "tests": {
            name: {
                **test.to_dict(),
                "adjusted_pvalue": comparison.verdict.adjusted[name],
            }
            for name, test in comparison.tests.items()
        },
        "features": [asdict(feature) for feature in comparison.features],
        "rows": [{**asdict(row), "side": comparison.names[row.side]} for row in comparison.rows],
        "memorisation": None if comparison.copying is None else copying_as_dict(comparison.copying),
        "classes": [asdict(score) for score in comparison.classes],
        "covered": {
            name: [asdict(row) for row in rows]
            for name, rows in zip(("worst", "best"), comparison.covered, strict=True)
        },
        "whole": None if comparison.whole is None else comparison.whole.as_dict(),
        "notes": list(comparison.notes),
        "provenance": asdict(comparison.provenance),
    }
    document: dict[str, Any] = plain(answer)
    return document


def _sample(side: Any, values: Any) -> dict[str, Any]:
    return {
        "name": side.name,
        "source": side.data.source,
        "kind": side.data.kind,
        "rows": side.total,
        "rows_compared": len(values),
        "dimension": values.shape[-1],
        "image_shape": side.pictures.image_shape,
    }


def copying_as_dict(copying: "Copying") -> dict[str, Any]:
    """What the training set says about one model."""
    scores = {
        s.name: {"value": s.value, "low": s.low, "high": s.high, "unseen": s.unseen}
        for s in copying.scores
    }
    return {
        "sentence": copying.sentence,
        "copies": copying.copies,
        "closer": copying.closer,
        "pvalue": copying.pvalue,
        "scores": scores,
        "suspects": [asdict(suspect) for suspect in copying.suspects],
    }


def _measurement(measurement: Measurement) -> dict[str, Any]:
    interval, floor = measurement.interval, measurement.floor
    return {
        "value": measurement.value,
        "interval": None if interval is None else interval.to_dict(),
        "noise_floor": None
        if floor is None
        else {
            "mean": floor.mean,
            "upper": floor.upper,
            "lower": floor.lower,
            "matched_mean": floor.matched_mean,
            "share_above": floor.share_above,
            "sizes": floor.sizes,
            "splits": len(floor.floor),
        },
        "extrapolation": None
        if measurement.detail is None
        else {
            "sizes": measurement.detail.sizes,
            "values": measurement.detail.values,
            "slope": measurement.detail.slope,
        },
        "sizes": measurement.sizes,
        "notes": measurement.notes,
    }


def plain(value: Any) -> Any:
    """The same value in JSON's types; NaN and infinities become None."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
