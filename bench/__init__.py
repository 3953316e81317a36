"""The harness that every self-supervised method shares: data, training, evaluation, storage, tables."""
