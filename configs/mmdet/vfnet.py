# VarifocalNet (Zhang et al., 2021), as in mmdet's vfnet_r50_fpn_1x_coco.
_base_ = ['./_base_/dense_detector.py', './_base_/coco_detection.py', './_base_/runtime.py']
model = dict(
    type='VFNet',
    neck=dict(relu_before_extra_convs=True),
    bbox_head=dict(
        type='VFNetHead',
        strides=[8, 16, 32, 64, 128],
        center_sampling=False,
        dcn_on_last_conv=False,
        use_atss=True,
        use_vfl=True,
        loss_cls=dict(
            type='VarifocalLoss',
            use_sigmoid=True,
            alpha=0.75,
            gamma=2.0,
            iou_weighted=True,
            loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=1.5),
        loss_bbox_refine=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(
        assigner=dict(type='ATSSAssigner', topk=9),
        allowed_border=-1,
        pos_weight=-1,
        debug=False))
