"""Room for a training: what is measured, what is needed, and what is done about a GPU."""

import dataclasses

import pytest
import torch

from flash_pipeline.errors import GpuUnavailable, InvalidConfig, NotEnoughRoom
from flash_pipeline.settings import Settings
from flash_pipeline.training.ceilings import (
    GIB,
    Gpu,
    Machine,
    measure_machine,
    place_training,
    require_gpu,
    training_needs,
)
from flash_pipeline.training.host_memory import available_memory
from flash_pipeline.training.recipes import demo_recipe, full_recipe, seed_recipe

FREE = Gpu("NVIDIA H200", 139 * GIB, 140 * GIB)
ROOMY = Machine(disk=500 * GIB, memory=100 * GIB, gpu=FREE)
BARE = dataclasses.replace(ROOMY, gpu=None)
BUSY = dataclasses.replace(ROOMY, gpu=dataclasses.replace(FREE, free=GIB))


@pytest.fixture
def place(tmp_path, frame):
    def place(machine, recipe=None, **options):
        settings = Settings(home=tmp_path, **options.pop("settings", {}))
        chosen = recipe or full_recipe()
        return place_training(settings, frame, chosen, measure=lambda _: machine, **options)

    return place


def test_a_free_gpu_is_taken(place):
    assert place(ROOMY) == (placement := place(ROOMY, on_gpu_trouble="skip"))
    assert (placement.device.type, placement.trouble) == ("cuda", "")


def test_a_recipe_that_expects_no_gpu_is_trained_on_the_cpu_without_trouble(place):
    placement = place(BARE, demo_recipe())
    assert (placement.device, placement.trouble) == (torch.device("cpu"), "")


@pytest.mark.parametrize("recipe", [full_recipe, seed_recipe])
def test_no_gpu_fails_unless_told_otherwise(place, recipe):
    with pytest.raises(GpuUnavailable, match="PyTorch finds no CUDA device; FLASH_PIPELINE_ON_GPU"):
        place(BARE, recipe())


def test_a_training_on_long_sequences_at_full_size_asks_for_a_gpu_first(tmp_path):
    settings = Settings(home=tmp_path)
    with pytest.raises(GpuUnavailable, match=r"'full' is not trained: .* no CUDA device; .*=cpu"):
        require_gpu(settings, "full", measure=lambda _: BARE)
    require_gpu(settings, "demo", measure=lambda _: BARE)
    require_gpu(settings, "full", measure=lambda _: ROOMY)
    on_cpu = dataclasses.replace(settings, on_gpu_trouble="cpu")
    require_gpu(on_cpu, "full", measure=lambda _: BARE)


@pytest.mark.parametrize("machine", [BARE, BUSY])
def test_trouble_leads_to_the_cpu_or_nowhere_as_configured(place, machine):
    on_cpu = place(machine, on_gpu_trouble="cpu")
    assert on_cpu.device == torch.device("cpu")
    left_out = place(machine, settings={"on_gpu_trouble": "skip"})
    assert left_out.device is None
    assert on_cpu.trouble == left_out.trouble != ""


def test_a_busy_gpu_is_told_with_what_is_free_and_what_is_needed(place):
    with pytest.raises(GpuUnavailable) as caught:
        place(BUSY)
    assert "NVIDIA H200 has 1.00 of 140.00 GiB free" in str(caught.value)
    assert "leaves 0.50" in str(caught.value)


def test_a_gpu_that_holds_the_training_but_not_the_floor_is_busy(place):
    need = training_needs(full_recipe(), 0, on_gpu=True).gpu
    tight = dataclasses.replace(ROOMY, gpu=dataclasses.replace(FREE, free=need + GIB // 4))
    assert place(tight, settings={"free_memory_gib": 0.0}).trouble == ""
    with pytest.raises(GpuUnavailable):
        place(tight)


def test_trouble_that_the_training_itself_showed_counts(place):
    placement = place(ROOMY, on_gpu_trouble="cpu", trouble="a step takes more than is free")
    assert (placement.device, placement.trouble) == (
        torch.device("cpu"),
        "a step takes more than is free",
    )


@pytest.mark.parametrize("policy", ["fail", "cpu", "skip"])
@pytest.mark.parametrize(("fact", "name"), [("disk", "disk"), ("memory", "memory")])
def test_without_disk_or_memory_nothing_is_trained(place, policy, fact, name):
    short = dataclasses.replace(ROOMY, **{fact: GIB // 10})
    with pytest.raises(NotEnoughRoom, match=rf"0\.10 GiB of {name} are free.*FREE_{name.upper()}"):
        place(short, on_gpu_trouble=policy)


def test_the_floor_is_what_stays_free(place):
    need = training_needs(demo_recipe(), 0, on_gpu=False).disk
    machine = dataclasses.replace(BARE, disk=need + GIB)
    assert place(machine, demo_recipe(), settings={"free_disk_gib": 0.9}).device is not None
    with pytest.raises(NotEnoughRoom, match=r"is to leave 1\.5"):
        place(machine, demo_recipe(), settings={"free_disk_gib": 1.5})


def test_memory_that_the_system_does_not_tell_is_not_checked(place):
    assert place(dataclasses.replace(BARE, memory=None), demo_recipe()).device is not None


def test_the_cpu_must_have_the_room_that_the_gpu_had_not(place):
    small = dataclasses.replace(BUSY, memory=3 * GIB)
    with pytest.raises(NotEnoughRoom, match="of memory are free"):
        place(small, on_gpu_trouble="cpu")


def test_an_unknown_way_out_is_refused(place):
    with pytest.raises(InvalidConfig, match="on_gpu_trouble is 'pray': expected one of fail, cpu"):
        place(ROOMY, on_gpu_trouble="pray")


def test_the_needs_grow_with_the_model_and_the_data():
    demo, full = (training_needs(r(), GIB, on_gpu=True) for r in (demo_recipe, full_recipe))
    assert demo.gpu < full.gpu
    assert demo.disk < full.disk < GIB
    more = training_needs(demo_recipe(), 2 * GIB, on_gpu=False)
    assert more.memory > training_needs(demo_recipe(), GIB, on_gpu=False).memory


def test_this_machine_is_measured(tmp_path):
    machine = measure_machine(tmp_path)
    assert machine.disk > 0
    assert machine.memory is None or 0 < machine.memory < 2**50
    assert machine.gpu is not None or machine.gpu_fault


def test_a_gpu_that_another_process_holds_for_itself_is_none(tmp_path, monkeypatch):
    def held():
        raise torch.AcceleratorError("CUDA error: all CUDA-capable devices are busy\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", held)
    machine = measure_machine(tmp_path)
    assert machine.gpu is None
    assert machine.gpu_fault == (
        "the GPU cannot be used: CUDA error: all CUDA-capable devices are busy"
    )


MEMINFO = "MemTotal: 16384 kB\nMemFree: 100 kB\nMemAvailable: 8192 kB\n"


def memory(folder, **files):
    (folder / "meminfo").write_text(MEMINFO)
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return available_memory(folder / "meminfo", folder)


def test_memory_is_what_linux_calls_available(tmp_path):
    assert memory(tmp_path) == 8192 * 1024
    assert memory(tmp_path, memory_dot_max="max\n", memory_dot_current="5", memory_dot_stat="") == (
        8192 * 1024
    )


def test_memory_is_bounded_by_the_container(tmp_path):
    assert (
        memory(
            tmp_path,
            memory_dot_max="4000\n",
            memory_dot_current="1500\n",
            memory_dot_stat="anon 500\ninactive_file 1000\n",
        )
        == 3500
    )


def test_memory_is_bounded_by_an_older_kind_of_container(tmp_path):
    assert (
        memory(
            tmp_path,
            memory__memory_dot_limit_in_bytes="4000\n",
            memory__memory_dot_usage_in_bytes="3000\n",
            memory__memory_dot_stat="total_inactive_file 1000\n",
        )
        == 2000
    )


def test_a_system_that_tells_nothing_is_no_error(tmp_path):
    assert available_memory(tmp_path / "none", tmp_path) is None


@pytest.mark.parametrize("policy", ["fail", "cpu", "skip"])
def test_a_busy_gpu_keeps_no_recipe_that_expects_none_from_the_cpu(place, policy):
    small = dataclasses.replace(BUSY, gpu=dataclasses.replace(FREE, free=0))
    placement = place(small, demo_recipe(), on_gpu_trouble=policy)
    assert placement.device == torch.device("cpu")
    assert "NVIDIA H200 has 0.00 of" in placement.trouble


def test_what_the_kernel_caches_counts_as_free(tmp_path):
    stat = "anon 500\ninactive_file 1000\nactive_file 300\nslab_reclaimable 100\n"
    files = {"memory_dot_max": "4000\n", "memory_dot_current": "2500\n"}
    assert memory(tmp_path, **files, memory_dot_stat=stat) == 2900
