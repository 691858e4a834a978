"""Proof by a second reader: pages are read back into facts from what stands on them, and held against the evidence.

Nothing here knows the objects that told or drew a page. Words come from the language's catalogue, as data.
"""
