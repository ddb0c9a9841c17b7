# A dense detector: a backbone and an FPN over strides 8 to 128. The files beside this folder add the head;
# backbone, channels, classes and pretrained weights are filled in by workers/models/detector_config.py.
model = dict(
    backbone=dict(),
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        start_level=1,
        add_extra_convs='on_output',
        num_outs=5),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100))
