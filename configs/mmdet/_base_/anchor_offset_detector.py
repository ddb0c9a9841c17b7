# A detector with square anchors, whose boxes are offsets from them.
_base_ = './square_anchor_detector.py'
model = dict(
    bbox_head=dict(
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[.0, .0, .0, .0],
            target_stds=[0.1, 0.1, 0.2, 0.2])))
