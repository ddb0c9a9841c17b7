"""Decides which queued runs start, where and together with which, and what a run becomes when an
attempt ends."""
