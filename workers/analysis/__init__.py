"""Metrics of detectors with confidence intervals, computed from matched detections."""
