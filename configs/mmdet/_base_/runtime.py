# What mmcv's runner reads. Reporting, checkpoints and evaluation are hooks of workers/hooks.
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', step=[8, 11])
runner = dict(type='EpochBasedRunner', max_epochs=12)
workflow = [('train', 1)]
log_level = 'INFO'
