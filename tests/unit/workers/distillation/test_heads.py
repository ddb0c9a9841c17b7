"""mmdet's heads with the losses of the whole batch."""

import sys

from mmdet.core import reduce_mean
from mmdet.models import HEADS

from workers.distillation import heads, paa_head, yolox_head


def test_no_head_averages_a_normalizer_over_the_processes() -> None:
    tandem_heads = [
        head
        for head in HEADS.module_dict.values()
        if head.__module__ in (heads.__name__, paa_head.__name__, yolox_head.__name__)
    ]
    modules = {sys.modules[base.__module__] for head in tandem_heads for base in head.__mro__}

    averaging = [m.__name__ for m in modules if getattr(m, "reduce_mean", None) is reduce_mean]

    assert len(tandem_heads) == 8
    assert averaging == []
