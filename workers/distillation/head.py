"""The GFL head that also learns from a teacher; its own losses stay mmdet's."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.core import reduce_mean
from mmdet.models import HEADS
from mmdet.models.dense_heads import GFLHead
from torch import Tensor

from configs.spec import Bckd
from workers.distillation.losses import classification_loss, disagreement, localization_loss
from workers.distillation.teacher import HeadOutputs


@dataclass(frozen=True)
class LevelTargets:
    """What the label assignment says about one feature level; N positions of the whole batch."""

    centres_N2: Tensor
    """Centres of the anchors, in strides."""

    label_weight_N: Tensor
    """0 outside of the padded image, else 1."""

    has_positives: bool


@HEADS.register_module()
class TandemGFLHead(GFLHead):
    """mmdet's GFL head plus BCKD's losses; same parameters, same state dict."""

    def distillation_losses(
        self, student: HeadOutputs, teacher: HeadOutputs, *, teacher_head: Any, method: Bckd
    ) -> dict[str, list[Tensor]]:
        """BCKD's losses by level, weights included, for the batch whose `loss` was just computed.

        A term of weight 0 is left out and costs nothing.
        """
        num_pos = self._num_pos()
        losses: dict[str, list[Tensor]] = {}
        for level, targets in enumerate(self._level_targets()):
            terms = self._level_losses(
                (student[0][level], student[1][level]),
                (teacher[0][level], teacher[1][level]),
                targets=targets,
                teacher_head=teacher_head,
                method=method,
                num_pos=num_pos,
            )
            for name, value in terms.items():
                losses.setdefault(name, []).append(value)
        return losses

    def get_targets(self, *args: Any, **kwargs: Any) -> Any:
        """mmdet's label assignment, kept for the distillation losses of the same batch."""
        self._targets = super().get_targets(*args, **kwargs)
        return self._targets

    def _level_losses(
        self,
        student: tuple[Tensor, Tensor],
        teacher: tuple[Tensor, Tensor],
        *,
        targets: LevelTargets,
        teacher_head: Any,
        method: Bckd,
        num_pos: float,
    ) -> dict[str, Tensor]:
        if method.levels == "with_positives" and not targets.has_positives:
            nothing = student[0].sum() * 0.0
            return {name: nothing for name, weight in _weights(method).items() if weight}
        logits_NC, teacher_logits_NC = _flat(student[0]), _flat(teacher[0])
        losses: dict[str, Tensor] = {}
        if method.cls_weight:
            losses["loss_distill_cls"] = method.cls_weight * classification_loss(
                logits_NC, teacher_logits_NC, label_weight_N=targets.label_weight_N, num_pos=num_pos
            )
        if method.loc_weight:
            difference_N = disagreement(logits_NC, teacher_logits_NC).amax(dim=1)
            losses["loss_distill_loc"] = method.loc_weight * localization_loss(
                _boxes(self, student[1], targets.centres_N2),
                _boxes(teacher_head, teacher[1], targets.centres_N2),
                importance_N=difference_N * targets.label_weight_N,
                num_pos=num_pos,
            )
        return losses

    def _level_targets(self) -> Iterator[LevelTargets]:
        anchors_list, labels_list, label_weights_list = self._targets[:3]
        strides = (stride for stride, _ in self.prior_generator.strides)
        for anchors, labels, weights, stride in zip(
            anchors_list, labels_list, label_weights_list, strides, strict=True
        ):
            yield LevelTargets(
                centres_N2=self.anchor_center(anchors.reshape(-1, 4)) / stride,
                label_weight_N=weights.reshape(-1),
                has_positives=bool(((labels >= 0) & (labels < self.num_classes)).any()),
            )

    def _num_pos(self) -> float:
        count = torch.tensor(float(self._targets[5]), device=self._targets[0][0].device)
        return max(float(reduce_mean(count)), 1.0)


def _flat(maps_BDHW: Tensor) -> Tensor:
    """(B, D, H, W) as (N, D): image by image, row by row."""
    return maps_BDHW.permute(0, 2, 3, 1).reshape(-1, maps_BDHW.shape[1]).float()


def _boxes(head: GFLHead, distributions_BDHW: Tensor, centres_N2: Tensor) -> Tensor:
    """Boxes that a head predicts at every position of a level, (N, 4), in strides."""
    # The integral is a matrix product: autocast would round edges to 1/64 of their value.
    with torch.autocast(distributions_BDHW.device.type, enabled=False):
        return head.bbox_coder.decode(centres_N2, head.integral(_flat(distributions_BDHW)))


def _weights(method: Bckd) -> dict[str, float]:
    return {"loss_distill_cls": method.cls_weight, "loss_distill_loc": method.loc_weight}
