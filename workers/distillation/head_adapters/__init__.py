"""One interface to all dense heads: class logits and decoded boxes at shared positions.

A position is one prediction at one location of a feature level. The N positions of a level are
ordered by image, row, column and anchor.
"""
