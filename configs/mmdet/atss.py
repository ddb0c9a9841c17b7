# ATSS (Zhang et al., 2020), as in mmdet's atss_r50_fpn_1x_coco.
_base_ = [
    './_base_/anchor_offset_detector.py', './_base_/coco_detection.py', './_base_/runtime.py'
]
model = dict(
    type='ATSS',
    bbox_head=dict(
        type='ATSSHead',
        loss_cls=dict(
            type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_centerness=dict(
            type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    train_cfg=dict(
        assigner=dict(type='ATSSAssigner', topk=9)))
