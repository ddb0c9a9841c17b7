"""Backbones that mmdet does not have, in its registry."""
