import numpy as np

from syncbn import functional as F

images = np.random.default_rng(0).normal(5, 2, (8, 3)).astype(np.float32)  # 8 samples, 3 channels
y, moments, backward = F.batch_norm(images)

print("mean of each channel    ", moments.mean.round(3))
print("variance of each channel", moments.var.round(3))
print("y has means             ", abs(y.mean(axis=0)).round(6), "and variances", y.var(axis=0).round(4))
