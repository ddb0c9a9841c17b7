# YOLOX (Ge et al., 2021), as in mmdet's yolox_s_8x8_300e_coco, with our backbones and pyramids of three levels.
# mmdet's detector also resizes batches at random; Tandem does not (data.multi_scale resizes images).
_base_ = ['./_base_/dense_detector.py', './_base_/coco_detection.py', './_base_/runtime.py']
model = dict(
    type='YOLOX',
    neck=dict(add_extra_convs=False, num_outs=3),
    bbox_head=dict(type='YOLOXHead', strides=[8, 16, 32]),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(
        _delete_=True, score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)))
