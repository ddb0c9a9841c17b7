# Generalized Focal Loss (Li et al., 2020), as in mmdet's gfl_r50_fpn_1x_coco.
_base_ = [
    './_base_/square_anchor_detector.py', './_base_/coco_detection.py', './_base_/runtime.py'
]
model = dict(
    type='GFL',
    bbox_head=dict(
        type='GFLHead',
        loss_cls=dict(
            type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
        reg_max=16,
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(
        assigner=dict(type='ATSSAssigner', topk=9)))
