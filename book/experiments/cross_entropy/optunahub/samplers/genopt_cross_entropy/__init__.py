"""The cross-entropy method as a sampler; the code is that of ``genopt-core``."""

from genopt_core.integrations.optuna import CrossEntropySampler

__all__ = ["CrossEntropySampler"]
