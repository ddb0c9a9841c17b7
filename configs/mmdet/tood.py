# TOOD (Feng et al., 2021), as in mmdet's tood_r50_fpn_1x_coco.
_base_ = [
    './_base_/anchor_offset_detector.py', './_base_/coco_detection.py', './_base_/runtime.py'
]
model = dict(
    type='TOOD',
    bbox_head=dict(
        type='TOODHead',
        anchor_type='anchor_free',
        initial_loss_cls=dict(
            type='FocalLoss',
            use_sigmoid=True,
            activated=True,
            gamma=2.0,
            alpha=0.25,
            loss_weight=1.0),
        loss_cls=dict(
            type='QualityFocalLoss',
            use_sigmoid=True,
            activated=True,
            beta=2.0,
            loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(
        initial_epoch=4,
        initial_assigner=dict(type='ATSSAssigner', topk=9),
        assigner=dict(type='TaskAlignedAssigner', topk=13),
        alpha=1,
        beta=6))
