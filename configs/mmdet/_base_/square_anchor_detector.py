# A dense detector with a square anchor of 8 strides at each location.
_base_ = './dense_detector.py'
model = dict(
    bbox_head=dict(
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            strides=[8, 16, 32, 64, 128])),
    train_cfg=dict(allowed_border=-1, pos_weight=-1, debug=False))
