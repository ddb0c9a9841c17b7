"""Backbones that mmdet does not have, in its registry."""

from workers.backbones import efficientnet_lite as _efficientnet_lite  # noqa: F401
