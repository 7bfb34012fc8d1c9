"""The plans of all normalizers: each runs one call, in compiled code (ext/plans.pyx)."""

from __future__ import annotations

from syncbn._core.kernels import compiled

_plans = compiled("plans")

batch_norm = _plans.batch_norm
batch_norm_inference = _plans.batch_norm_inference
batch_norm_gradient = _plans.batch_norm_gradient
group_norm = _plans.group_norm
instance_norm = _plans.instance_norm
feature_norm = _plans.feature_norm

__all__ = ["batch_norm", "batch_norm_gradient", "batch_norm_inference", "feature_norm", "group_norm", "instance_norm"]
