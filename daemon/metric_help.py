"""What each metric of `/metrics` tells, in the words that Prometheus shows."""

from __future__ import annotations

from typing import Final

HELP: Final = {
    "qm_http_requests_total": "HTTP requests, by method, route and status.",
    "qm_http_request_seconds": "Time from a request's head to the end of its answer.",
    "qm_time_to_first_token_seconds": "Time from a request to the first piece of its answer.",
    "qm_answers_total": "Finished answers, by model and why they ended.",
    "qm_prompt_tokens_total": "Tokens of prompts, cached ones included.",
    "qm_cached_prompt_tokens_total": "Tokens of prompts that the KV cache had already.",
    "qm_generated_tokens_total": "Tokens that models generated.",
    "qm_drafted_tokens_total": "Tokens that were guessed ahead.",
    "qm_accepted_tokens_total": "Tokens that were guessed ahead rightly.",
    "qm_generation_seconds_total": "Time that answers took after their first token.",
    "qm_loads_total": "Models loaded.",
    "qm_load_failures_total": "Loads that failed, by the code of the error.",
    "qm_unloads_total": "Models unloaded, evicted ones too, by reason.",
    "qm_runner_deaths_total": "Runners that ended without being told to.",
    "qm_models_loaded": "Models that are loaded now.",
    "qm_model_memory_bytes": "Memory of loaded models, by model and device.",
    "qm_host_memory_bytes": "The host's memory.",
    "qm_host_memory_available_bytes": "Memory of the host that is available.",
    "qm_requests_running": "Requests that models work on now.",
    "qm_requests_waiting": "Requests that wait for a model.",
    "qm_jobs_running": "Jobs that run now, by kind.",
    "qm_uptime_seconds": "Time since the daemon started.",
}
