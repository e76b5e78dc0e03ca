"""What is counted, as Prometheus reads it."""

from __future__ import annotations

from qm.daemon.chat.request import Delta, Finished, FinishReason, Metrics
from qm.daemon.meter import Meter


def test_labels_are_escaped_and_bounded() -> None:
    """A client can neither break the format by a name, nor fill the memory with names."""
    meter = Meter()
    meter.count("a_total", model='x"\n\\')
    assert 'a_total{model="x\\"\\n\\\\"} 1' in meter.text({}).splitlines()
    for number in range(5000):
        meter.count("b_total", model=str(number))
    lines = [line for line in meter.text({}).splitlines() if line.startswith("b_total")]
    assert len(lines) == 1001
    assert 'b_total{model="other"} 4000' in lines


def test_histograms_add_up() -> None:
    meter = Meter()
    for seconds in (0.001, 0.3, 1000):
        meter.request("GET", "/", 200, seconds)
    text = meter.text({"g": [({"a": "b"}, 2.5)]})
    assert 'qm_http_request_seconds_bucket{le="0.005"} 1' in text
    assert 'qm_http_request_seconds_bucket{le="0.5"} 2' in text
    assert 'qm_http_request_seconds_bucket{le="+Inf"} 3' in text
    assert "qm_http_request_seconds_count 3" in text
    assert 'g{a="b"} 2.500000' in text


def test_an_answer_is_counted_at_its_first_token_and_its_end() -> None:
    finished = Finished(FinishReason.STOP, Metrics(prompt_tokens=5, generated_tokens=2))
    meter = Meter()
    watch = meter.watch("m")
    for event in (Delta("a"), Delta("b"), finished):
        watch.saw(event)
    text = meter.text({})
    assert 'qm_generated_tokens_total{model="m"} 2' in text
    assert "qm_time_to_first_token_seconds_count 1" in text
