# FCOS (Tian et al., 2019) with its later improvements, as in mmdet's
# fcos_center-normbbox-centeronreg-giou_r50_caffe_fpn_gn-head_1x_coco.
_base_ = ['./_base_/dense_detector.py', './_base_/coco_detection.py', './_base_/runtime.py']
model = dict(
    type='FCOS',
    neck=dict(relu_before_extra_convs=True),
    bbox_head=dict(
        type='FCOSHead',
        strides=[8, 16, 32, 64, 128],
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        dcn_on_last_conv=False,
        conv_bias=True,
        loss_cls=dict(
            type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
        loss_centerness=dict(
            type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    train_cfg=None)
