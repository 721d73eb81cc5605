"""A peer: the dense networks of scikit-learn, one call of `partial_fit` an epoch, where they can do the same.

Samples and parameters are float32.  BLAS takes as many threads as its environment says.  Prints the seconds of each
epoch, then the score on the test data.

    OPENBLAS_NUM_THREADS=2 python sklearn_train.py "$TRAINING"
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from training import Training, say


def lacking(training: Training) -> str | None:
    """Return what scikit-learn lacks to train this network; None if nothing."""
    if training.convolutions:
        return "scikit-learn has no convolutions"
    if training.dropout:
        return "scikit-learn has no dropout"
    if training.halve_every:
        return "scikit-learn has no learning rate that falls by steps"
    return None


def network(training: Training) -> Any:
    """Return the estimator."""
    kind = MLPClassifier if training.loss == "cross_entropy" else MLPRegressor
    return kind(
        hidden_layer_sizes=training.widths[1:-1], activation=training.activation, solver=training.optimizer,
        alpha=training.weight_decay, batch_size=training.batch_size, learning_rate_init=training.learning_rate,
        momentum=0.0, nesterovs_momentum=False, random_state=training.seed,
    )  # fmt: skip


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Training.from_json, help="JSON, see training.py")
    training = parser.parse_args().training
    if reason := lacking(training):
        sys.exit(reason)
    x, y, x_test, y_test = training.arrays()
    model = network(training)
    classes = {"classes": np.unique(y)} if training.loss == "cross_entropy" else {}
    for _ in range(0, training.epochs, training.together):
        start = time.perf_counter()
        for _ in range(training.together):
            model.partial_fit(x, y, **classes)
        say(seconds=(time.perf_counter() - start) / training.together)
    predicted = model.predict_proba(x_test) if classes else model.predict(x_test)
    tensors = [*model.coefs_, *model.intercepts_]
    say(score=training.score(predicted, y_test), parameters=sum(each.size for each in tensors))


if __name__ == "__main__":
    main()
