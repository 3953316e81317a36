"""Weights that others saved: files read without executing them, timm's own, and where each tensor belongs."""
