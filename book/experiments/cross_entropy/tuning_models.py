"""The models of the real tunings, and their cross-validated error on scikit-learn's own data.

Four folds, shuffled once with seed 0; three for networks and for digits, of which 600 are used.
Every model has ``random_state`` 0.  What is built in stages (forests, boosting, networks) is
trained once and scored at all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

Settings = dict[str, Any]
Array = Any
DIGITS = 600
REGRESSION = "diabetes"
ITERATIONS = 5000
"""Of a support vector machine: one that has not settled by then is scored as it is."""


@cache
def data(which: str) -> tuple[Array, Array]:
    from sklearn import datasets

    if which == "cancer":
        found = datasets.load_breast_cancer()
    else:
        found = getattr(datasets, f"load_{which}")()
    x, y = found.data, found.target
    if which == "digits":
        keep = np.random.default_rng(0).permutation(len(y))[:DIGITS]
        x, y = x[keep], y[keep]
    return x, y


@cache
def folds(which: str, n: int) -> list[tuple[Array, Array]]:
    from sklearn.model_selection import KFold

    return list(KFold(n, shuffle=True, random_state=0).split(data(which)[0]))


def errors(name: str, settings: Settings, stages: Sequence[int] | None) -> Array:
    """The error at each stage, or of the one model."""
    model, which = name.split("-")
    y = data(which)[1]
    n = 3 if model == "network" or which == "digits" else 4
    wrong = np.zeros(len(stages) if stages else 1)
    for fit, held in folds(which, n):
        for i, told in enumerate(_answers(model, which, settings, stages, fit, held)):
            if which == REGRESSION:
                wrong[i] += float(np.square(told - y[held]).sum())
            else:
                wrong[i] += float((told != y[held]).sum())
    return wrong / (len(y) * y.var() if which == REGRESSION else len(y))


def _answers(
    model: str,
    which: str,
    settings: Settings,
    stages: Sequence[int] | None,
    fit: Array,
    held: Array,
) -> Iterator[Array]:
    x, y = data(which)
    learner = {
        "forest": _forest,
        "boosting": _boosting,
        "network": _network,
    }.get(model)
    if learner and stages:
        yield from learner(which, settings, stages, x[fit], y[fit], x[held])
        return
    own = dict(settings)
    made, told = _prepared(model, which, own, x, y, fit, held)
    learner_of = _model(model, which, own)
    yield learner_of.fit(made, y[fit]).predict(told)


# ------------------------------------------------------------------ what goes in


def _prepared(
    model: str, which: str, own: Settings, x: Array, y: Array, fit: Array, held: Array
) -> tuple[Array, Array]:
    """Rows scaled, multiplied, selected and projected as the settings say, which it takes out."""
    from sklearn import preprocessing
    from sklearn.decomposition import PCA
    from sklearn.feature_selection import SelectKBest, f_classif, f_regression

    steps: list[Any] = []
    squares = own.pop("squares", "none")
    if squares != "none":
        steps.append(preprocessing.PolynomialFeatures(2, interaction_only=squares == "products"))
        steps[-1].include_bias = False
    scalers = {
        "standard": preprocessing.StandardScaler,
        "minmax": preprocessing.MinMaxScaler,
        "robust": preprocessing.RobustScaler,
        "quantile": lambda: preprocessing.QuantileTransformer(
            n_quantiles=100, output_distribution="normal", random_state=0
        ),
    }
    scaling = own.pop("scaling", "standard" if model in ("linear", "gradient") else "none")
    if scaling != "none":
        steps.append(scalers[scaling]())
    elif which == "digits":
        steps.append(preprocessing.FunctionTransformer(_sixteenths))
    if "features" in own:
        score = f_regression if which == REGRESSION else f_classif
        steps.append(SelectKBest(score, k=own.pop("features")))
    if "components" in own:
        steps.append(PCA(own.pop("components"), whiten=own.pop("whiten"), random_state=0))
    made, told = x[fit], x[held]
    for step in steps:
        if isinstance(step, SelectKBest):
            step.k = min(step.k, made.shape[1])
        made = step.fit_transform(made, y[fit])
        told = step.transform(told)
    return made, told


def _sixteenths(x: Array) -> Array:
    return x / 16


# ------------------------------------------------------------------ what is fitted


def _model(model: str, which: str, own: Settings) -> Any:
    """The model of a tuning that is not built in stages."""
    from sklearn import linear_model, neighbors, svm, tree

    if model == "choice":
        model = own.pop("model")
    if model == "tree":
        if which == REGRESSION:
            # in units of the target's variance, about 6000
            own["ccp_alpha"] = own["ccp_alpha"] * 600
            return tree.DecisionTreeRegressor(random_state=0, **own)
        return tree.DecisionTreeClassifier(random_state=0, **own)
    if model == "svm":
        own.setdefault("kernel", "rbf")
        if which == REGRESSION:
            return _Standard(svm.SVR(max_iter=ITERATIONS, **own))
        return svm.SVC(max_iter=ITERATIONS, random_state=0, **own)
    if model == "neighbors":
        return neighbors.KNeighborsClassifier(**own)
    if model == "logistic":
        ratio = {"l1": 1.0, "l2": 0.0}.get(own.pop("penalty", "l2"))
        own["l1_ratio"] = own.get("l1_ratio", ratio)
        return linear_model.LogisticRegression(
            solver="saga", max_iter=60, tol=1e-3, random_state=0, **own
        )
    if model == "gradient":
        return linear_model.SGDClassifier(max_iter=8, tol=None, random_state=0, **own)
    if own.pop("model") == "ridge":
        return linear_model.Ridge(**own)
    return _Standard(linear_model.ElasticNet(max_iter=300, random_state=0, **own))


class _Standard:
    """A regression on the target's standard scores."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, x: Array, y: Array) -> _Standard:
        self.mean, self.deviation = y.mean(), y.std()
        self.model.fit(x, (y - self.mean) / self.deviation)
        return self

    def predict(self, x: Array) -> Array:
        return self.model.predict(x) * self.deviation + self.mean


def _forest(
    which: str, settings: Settings, stages: Sequence[int], x: Array, y: Array, held: Array
) -> Iterator[Array]:
    from sklearn import ensemble

    own = dict(settings)
    kind = own.pop("model", "forest")
    if which == REGRESSION:
        makers = {
            "forest": ensemble.RandomForestRegressor,
            "extra": ensemble.ExtraTreesRegressor,
        }
    else:
        makers = {"forest": ensemble.RandomForestClassifier}
    forest = makers[kind](n_estimators=max(stages), random_state=0, **own).fit(x, y)
    rows = held.astype(np.float32)
    if which == REGRESSION:
        each = np.array([t.predict(rows, check_input=False) for t in forest.estimators_])
        for n in stages:
            yield each[:n].mean(0)
    else:
        each = np.array([t.predict_proba(rows, check_input=False) for t in forest.estimators_])
        for n in stages:
            yield forest.classes_[each[:n].mean(0).argmax(1)]


def _boosting(
    which: str, settings: Settings, stages: Sequence[int], x: Array, y: Array, held: Array
) -> Iterator[Array]:
    from sklearn import ensemble, tree

    own = dict(settings)
    if which == REGRESSION:
        model = ensemble.GradientBoostingRegressor(n_estimators=max(stages), random_state=0, **own)
    else:
        rate = own.pop("learning_rate")
        base = tree.DecisionTreeClassifier(random_state=0, **own)
        model = ensemble.AdaBoostClassifier(
            base, n_estimators=max(stages), learning_rate=rate, random_state=0
        )
    found = list(model.fit(x, y).staged_predict(held))
    for n in stages:  # boosting may end before, when nothing is left to learn
        yield found[min(n, len(found)) - 1]


def _network(
    which: str, settings: Settings, stages: Sequence[int], x: Array, y: Array, held: Array
) -> Iterator[Array]:
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import StandardScaler

    own = dict(settings)
    own["hidden_layer_sizes"] = (own.pop("width"),) * own.pop("layers", 1)
    scaler = StandardScaler().fit(x)
    x, held = scaler.transform(x), scaler.transform(held)
    mean, deviation = y.mean(), y.std()
    if which == REGRESSION:
        model, target = MLPRegressor(random_state=0, batch_size=32, **own), (y - mean) / deviation
    else:
        model, target = MLPClassifier(random_state=0, **own), y
    classes = {} if which == REGRESSION else {"classes": np.unique(y)}
    lost = False
    for epoch in range(1, max(stages) + 1):
        if not lost:
            try:
                model.partial_fit(x, target, **classes)
                classes = {}
            except ValueError:  # weights that are no longer finite
                lost = True
        if epoch not in stages:
            continue
        if lost:
            yield np.full(len(held), np.inf)
        elif which == REGRESSION:
            yield model.predict(held) * deviation + mean
        else:
            yield model.predict(held)
