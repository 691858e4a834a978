"""Breast ultrasound as a modality of storyxai, and the published set BUSI as a source."""
