"""Samples that the service exports at `/metrics`, by name and label values."""

from prometheus_client.parser import text_string_to_metric_families

from tests.support.service.stage import Stage


def scrape_samples(stage: Stage) -> dict[tuple[str, tuple[str, ...]], float]:
    text = stage.http.get("/metrics").text
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
