"""Metrics as log records: event `metric`, with `metric` (its name), `value` and `dimensions`.

A record reaches Application Insights as a trace like all others, so a metric costs no connection of its own and is lost
only where the log is. docs/architecture.md has the query that turns the records into numbers.
"""

import logging

log = logging.getLogger(__name__)


def emit(metric: str, value: float = 1, **dimensions: str) -> None:
    """Add `value` to a metric. Dimensions have few different values each, and no secret."""
    log.info("metric", extra={"metric": metric, "value": value, "dimensions": dimensions})
