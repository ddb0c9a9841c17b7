"""What happens around mmcv's training loop, one concern a file."""
