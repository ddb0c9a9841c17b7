"""Did it help: numbers with their uncertainty, from which detections are right, image by image."""
