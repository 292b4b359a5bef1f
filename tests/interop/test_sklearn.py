"""Columns grouped as tokens, and the encoder as classifier and regressor of whole records."""

import pickle
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import FeatureAgglomeration
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tokred_sci import load_sample
from tokred_sci.errors import InputError
from tokred_sci.experiment import REDUCTIONS
from tokred_sci.interop.sklearn import SequenceClassifier, SequenceRegressor, TokenReducer

PRUNING = ("topk", "truncate")
SMALL = dict(patch=8, keep=4, dim=16, depth=1, heads=1, batch=8, steps=30, learning_rate=0.02)


def spectra(samples=12, columns=30):
    return np.random.default_rng(0).normal(size=(samples, columns)).cumsum(1)


def tones(lengths, rates=(0.1, 0.7)):
    """Series of one channel, slow and fast in turns."""
    draw = np.random.default_rng(0)
    return [
        np.sin(np.arange(length) * rates[place % 2] + draw.uniform(0, 6))[None] for place, length in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def fitted():
    X = tones(range(40, 72))
    return SequenceClassifier(**SMALL).fit(X, ["slow", "fast"] * 16), X


# TokenReducer


@pytest.mark.parametrize("method", REDUCTIONS)
def test_laws_of_grouped_columns(method):
    X = spectra()
    reducer = TokenReducer(n_tokens=7, method=method).fit(X)
    Z = reducer.transform(X)
    assert Z.shape == (12, reducer.n_tokens_) and reducer.n_tokens_ <= (30 if method == "none" else 7)
    assert set(reducer.labels_[reducer.labels_ >= 0]) == set(range(reducer.n_tokens_))
    assert (np.bincount(reducer.labels_[reducer.labels_ >= 0]) == reducer.sizes_).all()
    for group in range(reducer.n_tokens_):
        np.testing.assert_allclose(Z[:, group], X[:, reducer.labels_ == group].mean(1), atol=1e-12)
    np.testing.assert_allclose(reducer.transform(reducer.inverse_transform(Z)), Z, atol=1e-12)
    if method not in PRUNING:
        np.testing.assert_allclose(Z @ reducer.sizes_, X.sum(1))
    assert (TokenReducer(n_tokens=7, method=method).fit(X).labels_ == reducer.labels_).all()


@pytest.mark.parametrize("method", PRUNING)
def test_pruned_columns_come_back_as_zeros(method):
    X = spectra() + 100
    reducer = TokenReducer(n_tokens=7, method=method).fit(X)
    kept = reducer.labels_ >= 0
    assert kept.sum() == 7
    back = reducer.inverse_transform(reducer.transform(X))
    assert (back[:, kept] == X[:, kept]).all() and (back[:, ~kept] == 0).all()


@pytest.mark.parametrize("chain", [False, True])
def test_ward_is_feature_agglomeration(chain):
    X = spectra(20, 40)
    X /= np.linalg.norm(X, axis=0)  # ours compares directions, theirs differences
    theirs = FeatureAgglomeration(9, connectivity=grid_to_graph(40, 1, 1) if chain else None).fit(X)
    ours = TokenReducer(9, "agglomerative", options={"linkage": "ward", "chain": chain}).fit(X)
    assert len(set(zip(ours.labels_, theirs.labels_, strict=True))) == 9
    order = [theirs.labels_[np.argmax(ours.labels_ == group)] for group in range(9)]
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X)[:, order], atol=1e-12)


def test_places_and_windows_decide_who_may_join():
    X = spectra()
    shuffled = np.random.default_rng(1).permutation(30)
    reducer = TokenReducer(5, "voxel", places=shuffled).fit(X)
    for group in range(reducer.n_tokens_):
        places = np.sort(shuffled[reducer.labels_ == group])
        assert places[-1] - places[0] == len(places) - 1
        assert reducer.places_[group] == pytest.approx(places.mean())
    assert TokenReducer(5, "fps", places=np.random.default_rng(0).normal(size=(30, 3))).fit(X).places_.shape == (5, 3)
    windowed = TokenReducer(0.2, "peaks", window=10).fit(X)
    assert all(np.ptp(np.flatnonzero(windowed.labels_ == group)) < 10 for group in range(windowed.n_tokens_))


def test_names_data_frames_and_types():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(spectra(), columns=[f"{place} nm" for place in range(30)])
    reducer = TokenReducer(3, "links").set_output(transform="pandas").fit(frame)
    assert list(reducer.transform(frame).columns) == ["tokenreducer0", "tokenreducer1", "tokenreducer2"]
    assert TokenReducer(3).fit_transform(spectra().astype(np.float32)).dtype == np.float32


def test_random_state_of_a_random_method():
    X = spectra()

    def labels(seed):
        return TokenReducer(7, "random", random_state=seed).fit(X).labels_.tolist()

    assert labels(0) == labels(0) == labels(np.random.RandomState(0)) != labels(1)
    np.random.seed(5)  # noqa: NPY002  None means NumPy's global generator, as everywhere in scikit-learn
    first = labels(None)
    np.random.seed(5)  # noqa: NPY002
    assert labels(None) == first


def test_grid_search_through_a_pipeline():
    X, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), TokenReducer(), LogisticRegression(max_iter=500))
    grid = {"tokenreducer__n_tokens": np.array([4, 32]), "tokenreducer__method": ["peaks", "links"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X[:300], y[:300])
    assert search.best_params_["tokenreducer__n_tokens"] == 32
    assert search.best_score_ > 0.8


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"n_tokens": 31}, "in \\[1, 30\\]"),
        ({"n_tokens": 0}, "in \\[1, 30\\]"),
        ({"n_tokens": 1.5}, "ratio in"),
        ({"n_tokens": float("nan")}, "ratio in"),
        ({"n_tokens": "few"}, "as a number or a share"),
        ({"n_tokens": True}, "as a number or a share"),
        ({"method": "peak"}, "did you mean 'peaks'"),
        ({"method": "soft"}, "without weights"),
        ({"options": {"neighbors": 3}}, "neighbors"),
        ({"places": np.zeros(7)}, "shape \\(30,\\)"),
        ({"places": np.full(30, np.nan)}, "finite 'places'"),
        ({"places": ["left"] * 30}, "as numbers"),
        ({"window": 0}, "'size' >= 2"),
    ],
)
def test_settings_of_a_reducer_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        TokenReducer(**settings).fit(spectra())


def test_another_number_of_tokens_is_refused():
    with pytest.raises(InputError, match="Expected 3 columns"):
        TokenReducer(3).fit(spectra()).inverse_transform(np.zeros((2, 4)))


# Sequences


def test_series_of_any_length(fitted):
    classifier, X = fitted
    assert classifier.classes_.tolist() == ["fast", "slow"]
    assert classifier.score(tones(range(80, 120)), ["slow", "fast"] * 20) > 0.9
    assert not hasattr(classifier, "n_features_in_") and len(classifier.loss_curve_) == 30
    np.testing.assert_allclose(classifier.predict_proba(X).sum(1), 1)


@pytest.mark.parametrize("method", ["peaks", "random", "soft", "none"])
def test_a_record_has_one_answer_alone_and_in_any_batch(method):
    X = tones(range(40, 72))
    classifier = SequenceClassifier(**SMALL | {"method": method, "steps": 3}).fit(X, ["slow", "fast"] * 16)
    together = classifier.predict_proba(X)
    alone = np.concatenate([classifier.predict_proba([x]) for x in X])
    np.testing.assert_allclose(alone, together, atol=1e-10)
    np.testing.assert_allclose(classifier.predict_proba(X[::-1])[::-1], together, atol=1e-10)


def test_the_same_series_in_every_shape(fitted):
    classifier, _ = fitted
    series = tones([48] * 4)
    told = classifier.predict_proba(series)
    same = (series, np.stack(series), np.concatenate(series), [x[0] for x in series], [x.tolist() for x in series])
    ragged = np.empty(4, object)
    ragged[:] = series
    for X in (*same, [torch.from_numpy(x) for x in series], ragged):
        np.testing.assert_allclose(classifier.predict_proba(X), told, atol=1e-12)


def test_a_random_state_decides_and_no_global_state_is_touched():
    X, y = tones(range(40, 56)), [0, 1] * 8
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (
        SequenceClassifier(**SMALL | {"steps": 3}, random_state=seed).fit(X, y).predict_proba(X) for seed in (1, 1, 2)
    )
    assert (first == again).all() and not (first == other).any()
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("method", ["peaks", "random", "soft"])
def test_pickled_and_cloned(method):
    X, y = tones(range(40, 56)), ["slow", "fast"] * 8
    classifier = SequenceClassifier(**SMALL | {"method": method, "steps": 3}).fit(X, y)
    told = classifier.predict_proba(X)
    assert (pickle.loads(pickle.dumps(classifier)).predict_proba(X) == told).all()
    assert (clone(classifier).fit(X, y).predict_proba(X) == told).all()
    with pytest.raises(NotFittedError):
        clone(classifier).predict(X)


def test_gaps_are_missing_values(fitted):
    classifier, X = fitted
    gaps = [x.copy() for x in X]
    for place, x in enumerate(gaps):
        x[0, place % 40] = np.nan
    assert (classifier.predict(gaps) == classifier.predict(X)).mean() > 0.9
    gaps[3][:] = np.nan
    with pytest.raises(InputError, match="Record 3 of X: Expected at least one value"):
        classifier.predict(gaps)


def test_numbers_and_rows_of_numbers():
    rates = np.linspace(0.1, 0.7, 32)
    X = [np.sin(np.arange(40 + place) * rate) for place, rate in enumerate(rates)]
    settings = SMALL | {"steps": 80, "method": "links"}
    one = SequenceRegressor(**settings).fit(X, rates)
    assert one.predict(X).shape == (32,) and one.score(X, rates) > 0.5
    two = SequenceRegressor(**settings).fit(X, np.stack([rates, 1000 - 500 * rates], 1))
    assert two.predict(X).shape == (32, 2) and two.score(X, np.stack([rates, 1000 - 500 * rates], 1)) > 0.5
    assert SequenceRegressor(**settings | {"steps": 1}).fit(X, rates[:, None]).predict(X).shape == (32, 1)
    np.testing.assert_allclose(
        SequenceRegressor(**settings | {"steps": 20}).fit(X, rates * 0 + 7).predict(X), 7, atol=1
    )


def test_dna_and_points():
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("ACGT" if place % 2 else "AT"), 60 + place)) for place in range(20)]
    settings = SMALL | {"patch": 4}
    for tokenizer in ({}, {"compact": True}):
        dna = SequenceClassifier("dna", **settings, tokenizer=tokenizer).fit(texts, [0, 1] * 10)
        assert dna.score(np.array(texts), [0, 1] * 10) == 1
    flat = [draw.normal(size=(50 + place, 4)) * [1, 1, place % 2, 1] for place in range(20)]
    settings = SMALL | {"patch": None, "tokenizer": {"tokens": 8, "neighbours": 8}}
    points = SequenceClassifier("points", **settings).fit(flat, ["flat", "round"] * 10)
    assert points.score(flat, ["flat", "round"] * 10) > 0.8
    assert points.predict(np.stack([cloud[:50] for cloud in flat])).shape == (20,)


def test_searches_over_the_sample():
    records, labels = load_sample("series")
    chosen = [place for place, label in enumerate(labels) if label in (1, 4)]
    X, y = [records[place][:3, 200:400] for place in chosen], np.array([labels[place] for place in chosen])
    halves = StratifiedKFold(2, shuffle=True, random_state=0)
    grid = {"keep": np.array([2, 8]), "method": ["links"]}
    search = GridSearchCV(SequenceClassifier(**SMALL | {"steps": 40}), grid, cv=halves).fit(X, y)
    assert search.best_score_ > 0.9
    pipeline = make_pipeline(TokenReducer(0.5, "links"), SequenceClassifier(**SMALL))
    assert cross_val_score(pipeline, np.stack([x[0] for x in X]), y, cv=2).shape == (2,)


def test_a_bar_is_shown_on_a_terminal_if_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    X, y = tones(range(40, 48)), [0, 1] * 4
    SequenceClassifier(**SMALL | {"steps": 3}).fit(X, y)
    assert capsys.readouterr() == ("", "")
    SequenceClassifier(**SMALL | {"steps": 3}, verbose=True).fit(X, y)
    assert "3/3" in capsys.readouterr().err


def test_a_table_keeps_its_width(fitted):
    X = np.concatenate(tones([40] * 8))
    classifier = SequenceClassifier(**SMALL | {"steps": 1}).fit(X, [0, 1] * 4)
    assert classifier.n_features_in_ == 40
    with pytest.raises(ValueError, match="X has 39 features"):
        classifier.predict(X[:, :39])
    assert not hasattr(classifier.fit(X[:, None], [0, 1] * 4), "n_features_in_")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"domain": "text"}, "'domain' as one of"),
        ({"method": "peak"}, "did you mean 'peaks'"),
        ({"options": {"neighbors": 3}}, "neighbors"),
        ({"tokenizer": {"pach": 3}}, "pach"),
        ({"tokenizer": {"channels": "independent"}}, "hold all channels"),
        ({"keep": 0}, ">= 1"),
        ({"keep": 1.5}, "ratio in"),
        ({"block": 7}, "blocks to reduce"),
        ({"patch": 0}, "'patch'"),
        ({"steps": 0}, "'steps'"),
        ({"steps": 2.5}, "'steps'"),
        ({"batch": None}, "'batch'"),
        ({"dim": 15, "heads": 2}, "heads"),
        ({"learning_rate": "fast"}, "'learning_rate'"),
        ({"learning_rate": -1.0}, "'learning_rate'"),
        ({"unit": 0}, "'unit'"),
        ({"device": "abacus"}, "'device'"),
    ],
)
def test_settings_of_a_classifier_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        SequenceClassifier(**SMALL | settings).fit(tones([40, 41]), [0, 1])


@pytest.mark.parametrize(
    ("domain", "X", "told"),
    [
        ("series", [np.zeros((1, 9)), np.zeros((2, 9))], "Record 1 of X: Expected 1 channels"),
        ("series", [np.ones((1, 9)), np.zeros((1, 0))], "\\(1, 0\\) as record 1"),
        ("series", [np.ones((1, 9)), np.ones((1, 3, 3))], "as record 1"),
        ("series", [np.ones((1, 9)), np.full((1, 9), np.inf)], "Record 1 of X: Expected finite"),
        ("series", [[1.0, 2.0], [[1.0], [2.0, 3.0]]], "rectangular"),
        ("dna", ["ACGT", 7], "list of texts"),
        ("dna", "ACGT", "list of texts"),
        ("dna", ["ACGT", "AC!T"], "Record 1 of X"),
        ("points", np.zeros((2, 3)), "clouds"),
        ("points", [np.zeros((5, 3)), np.zeros((5, 2))], "Record 1 of X"),
    ],
)
def test_records_are_refused(domain, X, told):
    settings = SMALL | {"patch": None if domain == "points" else 4}
    with pytest.raises(InputError, match=told):
        SequenceClassifier(domain, **settings).fit(X, [0, 1])


def test_patches_of_points_are_refused():
    with pytest.raises(InputError, match="no 'patch' of points"):
        SequenceClassifier("points", patch=3).fit(np.zeros((2, 5, 3)), [0, 1])


@pytest.mark.parametrize(
    ("y", "told"),
    [([1, 1], "two classes"), ([0.0, np.nan], "labels"), (None, "requires y"), ([1, 2, 3], "inconsistent")],
)
def test_labels_are_refused(y, told):
    with pytest.raises(ValueError, match=told):
        SequenceClassifier(**SMALL).fit(tones([40, 41]), y)
