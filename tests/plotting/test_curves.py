"""Curves show the numbers of the results, with their intervals, and arms differ without colour too."""

import json

import numpy as np
import pytest

from tokred_sci.errors import FileError, InputError
from tokred_sci.plotting import lengths
from tokred_sci.plotting.curves import styles


def results(**more):
    points = [{"multiple": m, "accuracy": 0.9 - m / 10, "seconds": m / 100, "error": 0.03, **more} for m in (1, 2, 4)]
    arms = [{"name": name.upper(), "method": name, "lengths": points} for name in ("none", "links", "peaks", "random")]
    domain = {"question": "which?", "chance": 0.5, "length": 100, "unit": "bases", "arms": arms}
    return {"domains": {"dna": domain, "points": domain}}


def whiskers(axes):
    return [segment[:, 1] for container in axes.containers for segment in container[2][0].get_segments()]


def test_curves_are_the_numbers_and_errors_the_whiskers():
    top, _, bottom, _ = lengths(results()).axes
    assert top.containers[0][0].get_ydata().tolist() == pytest.approx([0.8, 0.7, 0.5])
    assert bottom.lines[0].get_data()[0].tolist() == [100, 200, 400]
    assert bottom.lines[0].get_data()[1].tolist() == [0.01, 0.02, 0.04]
    assert np.allclose(whiskers(top)[0], [0.77, 0.83])
    assert not bottom.containers


def test_low_and_high_come_before_the_error():
    top, _, bottom, _ = lengths(results(low=0.1, high=0.95, seconds_low=0.001, seconds_high=0.5)).axes
    assert np.allclose(whiskers(top)[0], [0.1, 0.95])
    assert np.allclose(whiskers(bottom)[0], [0.001, 0.5])


def test_a_file_and_its_folder_draw_the_same(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(results()))
    for path in (tmp_path, tmp_path / "results.json", str(tmp_path)):
        assert len(lengths(path).axes) == 4


def test_all_arms_are_in_the_legend_and_differ_without_colour():
    legend = next(axes.get_legend() for axes in lengths(results()).axes if axes.get_legend())
    assert [text.get_text() for text in legend.get_texts()] == ["NONE", "LINKS", "PEAKS", "RANDOM"]
    told = list(styles(["none", "random", *map(str, range(16))]))
    assert len({(style["marker"], style["linestyle"]) for style in told}) == 18


@pytest.mark.parametrize(
    "wrong", [{}, {"domains": {}}, {"domains": {"dna": {}}}, {"domains": {"dna": {"chance": None}}}]
)
def test_other_results_are_refused(wrong):
    with pytest.raises(InputError, match="results of a demo"):
        lengths(wrong)


def test_an_interval_without_its_value_is_refused():
    with pytest.raises(InputError, match="interval of accuracy"):
        lengths(results(low=0.85, high=0.95))


def test_a_file_that_is_not_there_or_is_no_json_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[1]")
    for name in ("a.json", "none.json"):
        with pytest.raises(FileError, match=name):
            lengths(tmp_path / name)
    with pytest.raises(InputError, match="domains"):
        lengths(tmp_path / "b.json")
