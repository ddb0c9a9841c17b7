"""`tandem reproduce`: the rows of published tables as runs, and what they measured."""
