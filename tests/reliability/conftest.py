"""Programs that `scripts/reliability.py` runs are not tests."""

collect_ignore = ["trials.py", "plain.py"]
