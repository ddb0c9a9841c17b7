"""Detector and training configs of mmdet, made from a spec."""
