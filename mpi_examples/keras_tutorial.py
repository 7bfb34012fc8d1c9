"""The tutorial's network in Keras, with the statistics and the gradients of all ranks.

    KERAS_BACKEND=torch mpiexec -n 4 python -m mpi4py mpi_examples/keras_tutorial.py

What differs from a script for one process is the import of BatchNormalization and its argument, the call of
`distribute`, and the share of the images that a rank passes to `fit`. Without `distribute`, each rank trains a model of
its own. The numbers in the log of `fit` are those of this rank's images.
"""

import keras
import numpy as np

from syncbn import data
from syncbn.comm import world
from syncbn.keras import BatchNormalization, distribute

comm = world()
images = data.prepare(data.load(), flat=True)
own = slice(comm.rank, len(images.x_train) // comm.size * comm.size, comm.size)  # equal numbers of images on all ranks

model = keras.Sequential(
    [
        keras.Input((784,)),
        keras.layers.Dense(64, activation="relu"),
        BatchNormalization(synchronized=True),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
if comm.rank == 0:
    model.summary()
distribute(model)
model.fit(images.x_train[own], images.y_train[own], batch_size=32, epochs=1, verbose=2 if comm.rank == 0 else 0)

_, accuracy = model.evaluate(images.x_test, images.y_test, verbose=0)
weights = comm.allgather(model.get_weights())
equal = all(np.array_equal(*pair) for other in weights for pair in zip(weights[0], other, strict=True))
if comm.rank == 0:
    print(f"equal weights on {comm.size} ranks: {equal}, test accuracy {100 * accuracy:.1f} %")
raise SystemExit(not (equal and accuracy > 0.6))
