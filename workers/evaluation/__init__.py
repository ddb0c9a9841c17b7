"""COCO evaluation, inference, timing, and pictures of detections."""
