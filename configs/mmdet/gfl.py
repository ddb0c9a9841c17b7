_base_ = ['./_base_/gfl_resnet.py', './_base_/coco_detection.py', './_base_/runtime.py']
