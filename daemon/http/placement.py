"""Routes that tell where models go: the machine's devices, and plans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Final

import msgspec
from aiohttp import web
from qm.modelfiles.model import Model, load_model
from qm.modelfiles.parameters import check_all
from qm.store.name import Name
from qm.store.pull.reference import is_hub

from ..budgets import told, unknown
from ..chat.options import chosen
from ..devices import Devices
from ..facts import ModelFacts
from ..loaded import facts_of
from ..outlook import Outlook, QuantOutlook
from ..runner.wire import Options
from ..services import Services
from ..setting_values import parse_budgets
from .dialect import Route
from .edge import answer, as_on_hub, network_of, read_fields
from .fields import JsonObject
from .ollama_request import InvalidField, model_name


async def _plan(request: web.Request, services: Services) -> web.Response:
    """Where a model would go; `options` as in a chat, `gpu_memory` instead of QM_GPU_MEMORY."""
    fields = await read_fields(request)
    called = as_on_hub(request, model_name(fields))
    known, _ = check_all(fields.document("options"))
    budget_text = fields.text("gpu_memory")
    try:
        budgets = parse_budgets(budget_text) if budget_text else None
    except ValueError as error:
        raise InvalidField(f"gpu_memory {budget_text!r} can't be used: {error}") from error
    wishes = msgspec.convert(known, Options)
    if is_hub(called):
        seen = await last_step(services.jobs.run("peek", {"model": called}, network_of(request)))
        return answer(await _remote(services, seen, wishes, budgets) | {"model": called})
    model = await asyncio.to_thread(load_model, services.store, Name.parse(called))
    facts, wishes = facts_of(model), chosen(model.parameters, wishes)
    outlook = await _outlook(services, facts, wishes, budgets, model)
    return answer({"model": str(model.name)} | plan_document(outlook))


async def _outlook(
    services: Services,
    facts: ModelFacts,
    wishes: Options,
    budgets: dict[str, int] | None,
    model: Model | None,
) -> Outlook:
    """Raises InvalidField where a budget is for a device that isn't there."""
    outlook = await services.supervisor.prospects.outlook(facts, wishes, budgets, model)
    if wrong := unknown(budgets or {}, outlook.devices):
        raise InvalidField(f"gpu_memory: {told(wrong, outlook.devices)}")
    return outlook


async def _remote(
    services: Services, seen: JsonObject, wishes: Options, budgets: dict[str, int] | None
) -> JsonObject:
    """The plan of a model that is still on the hub, from what its files' headers say."""
    facts = msgspec.convert(seen["facts"], ModelFacts)
    outlook = await _outlook(services, facts, wishes, budgets, None)
    about = {
        "quant": seen["quant"],
        "download_bytes": seen["size"],
        "read_bytes": seen["read_bytes"],
    }
    return plan_document(outlook) | about


async def last_step(steps: AsyncIterator[JsonObject]) -> JsonObject:
    """What a job ended with."""
    last: JsonObject = {}
    async for step in steps:
        last = step
    return last


async def _devices(_request: web.Request, services: Services) -> web.Response:
    found = await services.supervisor.prospects.devices()
    settings = services.settings
    wrong = unknown(settings.gpu_memory, found)
    return answer(
        devices_document(found)
        | {
            "rpc": list(settings.rpc),
            "gpu_memory_problem": told(wrong, found) if wrong else None,
            "gpu_reserve_bytes": settings.gpu_reserve_bytes,
            "host": asdict(services.supervisor.prospects.host()),
        }
    )


def devices_document(found: Devices) -> JsonObject:
    """Devices as ggml's registry has them."""
    return {
        "devices": [msgspec.to_builtins(one) for one in found.devices],
        "missing": [{"endpoint": endpoint, "reason": reason} for endpoint, reason in found.missing],
        "backends": list(found.backends),
        "supports_offload": found.supports_offload,
        "llama_cpp_python": found.binding,
    }


def plan_document(outlook: Outlook) -> JsonObject:
    """The placement with its account, and what else would fit."""
    found = outlook.fit
    placement = found.placement
    return {
        "reason": found.reason,
        "measured": found.measured,
        "context_length": placement.n_ctx,
        "wanted_context_length": found.target_n_ctx,
        "most_context_length": outlook.most_context,
        "kv_type": placement.kv_type,
        "parallel": placement.n_parallel,
        "gpu_layers": found.n_gpu_layers,
        "layers": found.n_layers,
        "host_experts": found.n_host_experts,
        "output_on_host": found.head_on_host,
        "predicted_bytes": found.predicted_bytes,
        "gpu_bytes": found.device_bytes,
        "devices": [asdict(use) | {"total_bytes": use.total_bytes} for use in found.uses],
        "quants": [_quant(one) for one in outlook.quants],
    }


def _quant(one: QuantOutlook) -> JsonObject:
    if one.n_gpu_layers is None:
        fits = "no"
    elif one.n_gpu_layers == one.n_layers:
        fits = "gpu"
    else:
        fits = "partly" if one.n_gpu_layers else "cpu"
    return {"type": one.name, "weights_bytes": one.weights_bytes, "fits": fits}


PLACEMENT_ROUTES: Final = (
    Route("POST", "/qm/plan", _plan),
    Route("GET", "/qm/devices", _devices),
)
