"""What prelabel counts, in Prometheus' terms. One `Metrics` an app, with its own registry; `status.gauges` renders it.

Labels have few values (routes, statuses, reasons): never a task, a project, an address or a text. Nothing here raises.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

PREDICT_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 45.0, 95.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "prelabel_requests", "HTTP requests", ["method", "route", "status"], registry=self.registry
        )
        self.predict_s = Histogram(
            "prelabel_predict_seconds", "Time to answer /predict", registry=self.registry, buckets=PREDICT_BUCKETS_S
        )
        self.images = Counter("prelabel_images", "Pictures by what came of them", ["result"], registry=self.registry)
        self.failures = Counter(
            "prelabel_task_failures", "Tasks left without a prediction", ["reason"], registry=self.registry
        )
        self.tokens = Counter("prelabel_tokens", "Tokens by kind", ["kind"], registry=self.registry)
        self.webhooks = Counter("prelabel_webhooks", "Webhook calls", ["action"], registry=self.registry)
