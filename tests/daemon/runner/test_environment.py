"""What children may know."""

from __future__ import annotations

from qm.daemon.runner.environment import child_environment, runner_environment


def test_secrets_stay_behind() -> None:
    """Only what a child needs is passed on, whatever secrets are called."""
    given = {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "0",
        "GOMP_SPINCOUNT": "7",
        "HF_TOKEN": "s3cret",
        "QM_API_KEY": "s3cret",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
    }
    kept = child_environment(given)
    assert "s3cret" not in kept.values()
    assert kept["PATH"] == "/bin"
    assert kept["CUDA_VISIBLE_DEVICES"] == "0"
    assert kept["GOMP_SPINCOUNT"] == "7"  # the user's own choice wins


def test_runners_wait_longer_unless_told_otherwise() -> None:
    """A runner's threads are patient by default; the user's own choice wins here too."""
    assert int(runner_environment({})["GOMP_SPINCOUNT"]) > int(
        child_environment({})["GOMP_SPINCOUNT"]
    )
    assert runner_environment({"GOMP_SPINCOUNT": "7"})["GOMP_SPINCOUNT"] == "7"
