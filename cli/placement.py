"""`qm plan`, `qm doctor`: where models go on this machine, and what it has for them."""

from __future__ import annotations

import shlex
import sys

import click

from .client import JsonObject
from .connect import connect, show_json
from .naming import model_argument
from .running import processor_text
from .table import size_text, table

FITS = {
    "gpu": "on the GPUs",
    "partly": "partly on the GPUs",
    "cpu": "on the CPU",
    "no": "not at all",
}
BACKENDS = {  # of a maker's cards: what computes on them, how to build it, and what that takes
    "nvidia": ("CUDA", "-DGGML_CUDA=on", "the CUDA toolkit (nvcc)"),
    "amd": ("ROCm", "-DGGML_HIP=on", "ROCm with its compiler (hipcc)"),
    "intel": ("Vulkan", "-DGGML_VULKAN=on", "glslc and the headers of Vulkan"),
    "apple": ("Metal", "-DGGML_METAL=on", "Xcode's command line tools"),
}
NO_CARDS = {"CPU", "RPC", "BLAS"}  # backends that compute on no card of this machine


@click.command()
@model_argument("model", as_written=True)
@click.option("--num-ctx", type=int, help="Context in tokens.")
@click.option("--num-gpu", type=int, help="Layers on GPUs, at most.")
@click.option("--num-parallel", type=int, help="Requests answered at once.")
@click.option("--kv-type", help="Type of the KV cache, such as q8_0.")
@click.option("--gpu-memory", help="Budget of GPUs, as QM_GPU_MEMORY.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan_command(
    *,
    model: str,
    num_ctx: int | None,
    num_gpu: int | None,
    num_parallel: int | None,
    kv_type: str | None,
    gpu_memory: str | None,
    as_json: bool,
) -> None:
    """Say where MODEL would go, what it would take there, and what else would fit."""
    wishes = {
        "num_ctx": num_ctx,
        "num_gpu": num_gpu,
        "num_parallel": num_parallel,
        "kv_type": kv_type,
    }
    options = {name: value for name, value in wishes.items() if value is not None}
    body: JsonObject = {"model": model, "options": options}
    if gpu_memory is not None:
        body["gpu_memory"] = gpu_memory
    plan = connect().post("/qm/plan", body)
    if as_json:
        show_json(plan)
    else:
        click.echo(plan_text(plan))


def plan_text(plan: JsonObject) -> str:
    """The account of each device, and the outlook."""
    header = ("DEVICE", "LAYERS", "WEIGHTS", "KV", "COMPUTE", "TOTAL", "ROOM", "FREE")
    rows = [
        (
            use["device"],
            str(use["n_layers"]),
            *(size_text(use[key]) for key in ("weights_bytes", "kv_bytes", "compute_bytes")),
            *(size_text(use[key]) for key in ("total_bytes", "room_bytes", "free_bytes")),
        )
        for use in plan["devices"]
    ]
    split = processor_text(plan["predicted_bytes"], plan["gpu_bytes"])
    how = "measured by a dry run" if plan["measured"] else "estimated"
    quants = [
        (one["type"], size_text(one["weights_bytes"]), FITS[one["fits"]]) for one in plan["quants"]
    ]
    return "\n".join(
        (
            f"{plan['reason']}",
            f"{size_text(plan['predicted_bytes'])} ({how}), {split}",
            "",
            table(header, rows),
            "",
            f"context:    {plan['context_length']} tokens; up to {plan['most_context_length']} "
            "would fit like this",
            *_download(plan),
            "",
            table(("QUANT", "ABOUT", "WOULD FIT"), quants),
        )
    )


def _download(plan: JsonObject) -> tuple[str, ...]:
    """Of a model that is on the hub: what it would cost to have it, and what the plan did."""
    if "download_bytes" not in plan:
        return ()
    sizes = size_text(plan["download_bytes"]), size_text(plan["read_bytes"])
    return (f"download:   {sizes[0]} as {plan['quant']}; {sizes[1]} were read for this",)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def doctor_command(ctx: click.Context, as_json: bool) -> None:
    """Say what models can be put on, and what is wrong with it. Exit code 1 if something is."""
    from .graphics import graphics_cards

    found = connect().get("/qm/devices")
    problems = problems_of(found, graphics_cards())
    if as_json:
        show_json(found | {"problems": problems})
    else:
        click.echo(devices_text(found))
        for problem in problems:
            click.echo(f"\n{problem}")
    ctx.exit(1 if problems else 0)


def devices_text(found: JsonObject) -> str:
    """A table of the devices."""
    rows = [
        (
            one["name"],
            one["kind"],
            one["backend"],
            size_text(one["free_bytes"]),
            size_text(one["total_bytes"]),
            one["description"],
        )
        for one in found["devices"]
    ]
    text = table(("DEVICE", "KIND", "BACKEND", "FREE", "TOTAL", "WHAT IT IS"), rows)
    host = found.get("host")
    if host:
        text += (
            f"\n\nmodels may take {size_text(host['available_bytes'])} of the host's "
            f"{size_text(host['total_bytes'])}"
            + (f" ({host['limited_by']})" if host.get("limited_by") else "")
            + f"; {host['n_cores']} cores"
        )
    return text


def problems_of(found: JsonObject, cards: tuple[str, ...]) -> list[str]:
    """What is wrong, each with what to do about it."""
    problems = _missing_workers(found)
    if wrong := found.get("gpu_memory_problem"):
        problems.append(f"QM_GPU_MEMORY: {wrong}")
    if {one["backend"] for one in found["devices"]} - NO_CARDS:
        return problems
    built = sorted(set(found["backends"]) - NO_CARDS)
    if built and cards:
        return [_no_device(cards, built), *problems]
    return [_wrong_build(card, found["llama_cpp_python"]) for card in cards] + problems


def _missing_workers(found: JsonObject) -> list[str]:
    if found["missing"] and found["backends"] and "RPC" not in found["backends"]:
        return [
            "QM_RPC names workers, but llama-cpp-python was built without RPC. A build with it:\n"
            + _build_command("-DGGML_RPC=on", found["llama_cpp_python"])
        ]
    return [f"QM_RPC: {one['endpoint']}: {one['reason']}" for one in found["missing"]]


def _no_device(cards: tuple[str, ...], built: list[str]) -> str:
    return (
        f"There is a graphics card ({', '.join(cards)}) and llama-cpp-python was built for "
        f"{', '.join(built)}, which finds no device. Its driver may be missing or too old, or this "
        "user may not open the device (on Linux: the groups video and render)."
    )


def _wrong_build(card: str, version: str) -> str:
    backend, flag, needed = BACKENDS[card]
    return (
        f"There is a graphics card ({card}), but llama-cpp-python was built for the CPU alone. "
        f"A build for {backend}, which takes {needed}:\n" + _build_command(flag, version)
    )


def _build_command(flag: str, version: str) -> str:
    return (
        f'  CMAKE_ARGS="{flag}" {shlex.quote(sys.executable)} -m pip install --force-reinstall '
        f"--no-deps --no-cache-dir --no-binary llama-cpp-python llama-cpp-python=={version}\n"
        "then restart the daemon: qm shutdown"
    )
