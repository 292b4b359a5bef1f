"""scikit-learn's own checks of estimators, and aeon's."""

import pickle
import sys

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.interop import aeon as ours
from tokred_sci.interop.sklearn import SequenceClassifier, SequenceRegressor, TokenReducer

SMALL = dict(method="links", patch=4, dim=16, depth=1, heads=1, learning_rate=0.02)
ESTIMATORS = [
    *(TokenReducer(method=method) for method in ("peaks", "links", "topk", "random", "hdbscan")),
    SequenceClassifier(**SMALL, steps=40),
    SequenceRegressor(**SMALL, steps=60),
]
EXPECTED_FAILURES: dict[str, str] = {}  # name of a check: why it must fail


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: EXPECTED_FAILURES)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["AeonReducer", "AeonClassifier"])
def test_aeon_checks(name):
    pytest.importorskip("aeon")
    from aeon.testing.estimator_checking import check_estimator

    results = check_estimator(getattr(ours, name), raise_exceptions=False)
    assert len(results) > 20
    assert {check: told for check, told in results.items() if told != "PASSED"} == {}


@pytest.mark.filterwarnings("ignore")
def test_aeon_classifier_takes_unequal_series_with_gaps():
    pytest.importorskip("aeon")
    X = [np.sin(np.arange(30 + 3 * place) * (0.1 + 0.6 * (place % 2)))[None] for place in range(8)]
    X[0][0, 3] = np.nan
    y = np.array(["slow", "fast"] * 4)
    classifier = ours.AeonClassifier(patch=4, keep=4, dim=16, steps=40, batch=8).fit(X, y)
    assert (classifier.predict(X) == y).all()
    assert (pickle.loads(pickle.dumps(classifier)).predict_proba(X) == classifier.predict_proba(X)).all()


def test_missing_aeon_is_told_with_the_pip_line(monkeypatch):
    for name in ("AeonClassifier", "AeonReducer"):
        vars(ours).pop(name, None)
    monkeypatch.setitem(sys.modules, "aeon", None)
    monkeypatch.setitem(sys.modules, "aeon.classification", None)
    with pytest.raises(MissingExtra, match=r'pip install "tokred-sci\[aeon\]"'):
        _ = ours.AeonClassifier
    with pytest.raises(AttributeError, match="no attribute 'AeonForecaster'"):
        _ = ours.AeonForecaster


@pytest.mark.parametrize("method", ["links", "peaks", "medoids", "stride", "voxel"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_shortened_series_keeps_order_and_mean(method, channels):
    series = np.random.default_rng(0).normal(size=(channels, 40)).cumsum(1)
    short = ours.reduce_series(series, 8, method)
    assert short.shape[0] == channels and 1 <= short.shape[1] <= 8 and short.dtype == np.float64
    assert (ours.reduce_series(series, 40) == series).all()
    ramp = np.vstack([series, np.arange(40.0)])  # a channel that counts time tells the mean times
    assert (np.diff(ours.reduce_series(ramp, 8, method)[-1]) > 0).all()
    runs = ours.reduce_series(series, 0.25, "stride")
    np.testing.assert_allclose(runs, series.reshape(channels, 10, 4).mean(2))


def test_a_single_channel_is_cut_at_its_jumps():
    series = np.repeat([0.0, 5.0, -2.0, 9.0], 10)[None]
    assert ours.reduce_series(series, 4, "links").tolist() == [[0.0, 5.0, -2.0, 9.0]]


@pytest.mark.parametrize(
    ("series", "more", "told"),
    [
        (np.zeros(5), {}, "shape \\(channels, steps\\)"),
        (np.full((1, 3), np.nan), {}, "finite"),
        (np.zeros((0, 3)), {}, "shape"),
        (np.zeros((1, 3)), {"method": "soft"}, "without weights"),
        (np.zeros((1, 3)), {"method": "link"}, "did you mean 'links'"),
        (np.zeros((1, 3)), {"keep": 0}, ">= 1"),
        (np.zeros((1, 3)), {"options": {"widht": 2}}, "widht"),
    ],
)
def test_a_series_that_cannot_be_shortened_is_refused(series, more, told):
    with pytest.raises(InputError, match=told):
        ours.reduce_series(series, **more)
